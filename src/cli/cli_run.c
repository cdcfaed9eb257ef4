#include "base/nearest.h"
#include "cli/cli.h"
#include "comm/rank_env.h"

#include <errno.h>
#include <string.h>

static const cli_command *find_command(const char *name) {
    int n;
    const cli_command *const *commands = cli_commands(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static status unknown_command(const char *name) {
    int count;
    const cli_command *const *commands = cli_commands(&count);
    nearest n;
    nearest_init(&n, name);
    for (int i = 0; i < count; i++) nearest_try(&n, commands[i]->name);
    const char *best = nearest_result(&n);
    error_set(STATUS_USAGE, "maskrcnn --help lists the commands", "unknown command %.100s", name);
    if (best) error_set_remedy("did you mean %s?", best);
    return STATUS_USAGE;
}

/* What was printed is on its way only if this succeeds: a full disk shows up here. */
static status flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return STATUS_OK;
    return error_set(STATUS_IO, "check where the output goes", "standard output: %s", strerror(errno));
}

status cli_check_one_process(const char *what) {
    rank_env env;
    RETURN_IF_ERROR(rank_env_read(&env));
    if (env.size == 1) return STATUS_OK;
    return error_set(STATUS_USAGE,
                     "start it without mpirun (train and eval --config share work between ranks)",
                     "%s runs as one process, but was started as %d", what, env.size);
}

static status run_command(const cli_command *command, int argc, char **argv) {
    cli_args args;
    status s = cli_parse(&args, command, argc, argv);
    if (s == STATUS_OK && args.help) {
        cli_print_command_help(stdout, command);
    } else if (s == STATUS_OK) {
        if (command->one_process) s = cli_check_one_process(command->name);
        if (s == STATUS_OK) s = command->run(&args);
    }
    cli_release(&args);
    return s;
}

static bool is_one(const char *argument, const char *a, const char *b) {
    return strcmp(argument, a) == 0 || strcmp(argument, b) == 0;
}

status cli_run(int argc, char **argv) {
    if (argc < 2) return error_set(STATUS_USAGE, "maskrcnn --help lists the commands", "no command given");
    const char *name = argv[1];
    bool ask_help = is_one(name, "--help", "-h") || strcmp(name, "help") == 0;
    const cli_command *command = find_command(ask_help && argc > 2 ? argv[2] : name);
    status s = STATUS_OK;
    if (ask_help && argc > 2 && !command)
        s = unknown_command(argv[2]);
    else if (ask_help && command)
        cli_print_command_help(stdout, command);
    else if (ask_help)
        cli_print_help(stdout);
    else if (strcmp(name, "--version") == 0)
        puts("maskrcnn " MASKRCNN_VERSION);
    else if (!command && name[0] == '-')
        s = error_set(STATUS_USAGE, "options follow the command: maskrcnn COMMAND --help",
                      "unknown option %.100s before the command", name);
    else
        s = command ? run_command(command, argc - 2, argv + 2) : unknown_command(name);
    return s == STATUS_OK ? flush_output() : s;
}
