#include "cli/cli.h"

#define COMMAND(name) extern const cli_command cmd_##name;
#include "cli/cli_commands.def"
#undef COMMAND

static const cli_command *const commands[] = {
#define COMMAND(name) &cmd_##name,
#include "cli/cli_commands.def"
#undef COMMAND
    NULL};

const cli_command *const *cli_commands(int *count) {
    *count = (int)(sizeof commands / sizeof *commands) - 1;
    return commands;
}
