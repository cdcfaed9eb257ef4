/* The command line: one table of commands, one table of options per command that drives parsing and --help
 * alike.
 *
 *     maskrcnn COMMAND --name VALUE --name=VALUE --flag ARGUMENT... KEY VALUE... KEY=VALUE...
 *     maskrcnn GROUP COMMAND ...
 *
 * A command lives in cmd_<name>.c, exports `const cli_command cmd_<name>` and has a line in cli_commands.def. A group of
 * commands is a command with `members` instead of `run`; its members are named "group member":
 *
 *     static const cli_option options[] = {
 *         {.name = "config", .value = "FILE", .help = "configuration", .required = true},
 *         {.name = "resume", .help = "go on from the last checkpoint"},
 *         {0}};
 *     static status run(const cli_args *args) { ... cli_value(args, "config") ... }
 *     const cli_command cmd_train = {.name = "train", ..., .options = options, .overrides = true, .run = run}; */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/status.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cli_option {
    const char *name;  /* without the dashes; NULL ends a table */
    const char *value; /* what the value is, in capitals; NULL: a flag */
    const char *help;
    const char *choices; /* "cpu|cuda": the only values accepted; NULL: any */
    bool required;
    bool repeated; /* may stand more than once */
} cli_option;

typedef struct cli_args cli_args;

enum { CLI_ANY_COUNT = 1 << 20, CLI_EXAMPLES = 3 };

typedef struct cli_command {
    const char *name;    /* "train"; of a member of a group "bench op" */
    const char *summary; /* one line for the list of commands, without a full stop */
    const char *usage;   /* what follows the name, e.g. "--config FILE [KEY VALUE...]" */
    const char *details; /* a paragraph for --help; may be NULL */
    const char *examples[CLI_EXAMPLES];
    const cli_option *options; /* ends with {0}; --help is added to each */
    const char *argument;      /* what a positional argument is ("IMAGE"); NULL: there are none */
    int min_arguments, max_arguments;
    bool overrides;   /* takes KEY VALUE and KEY=VALUE after the arguments */
    bool one_process; /* refused under mpirun with several ranks, which would write the same files */
    status (*run)(const cli_args *args);
    const struct cli_command *const *members; /* NULL behind the last; NULL: no group */
} cli_command;

/* A parsed command line. Strings point into argv. */
struct cli_args {
    const cli_command *command;
    struct cli_given {
        const cli_option *option;
        const char *value; /* NULL for a flag */
    } * given;
    int given_count;
    const char **arguments;
    int argument_count;
    char **overrides; /* as config_load takes them */
    int override_count;
    bool help; /* --help was asked for; nothing else has been checked then */
};

/* Every command and group, NULL behind the last; the count. */
const cli_command *const *cli_commands(int *count);

/* The command that `words` start with, and how many of them (1 or 2) are its name: a group where no member is named. USAGE: there
 * is none. */
status cli_find(const cli_command **out, int *name_words, int words, char **word);

/* The value of an option, NULL where it was not given (the last one of a repeated option). */
const char *cli_value(const cli_args *args, const char *option);
bool cli_flag(const cli_args *args, const char *option);

/* The i-th value of a repeated option, NULL behind the last. */
const char *cli_nth_value(const cli_args *args, const char *option, int i);

/* An option's value as an integer from lo to hi, `fallback` where it was not given. USAGE. */
status cli_int(int64_t *out, const cli_args *args, const char *option, int64_t lo, int64_t hi,
               int64_t fallback);

/* An option's value as a number from 0 to 1, `fallback` where it was not given. USAGE. */
status cli_fraction(double *out, const cli_args *args, const char *option, double fallback);

/* The configuration of a command: --config, then the overrides; --weights and --device, where the command has
 * them and they were given, replace MODEL.WEIGHTS and MODEL.DEVICE. Codes of config_load. */
status cli_load_config(config *out, const cli_args *args);

/* USAGE where several ranks were started; `what` is the command that they would all run. */
status cli_check_one_process(const char *what);

/* Parses what follows the command's name. The arrays of *out are released by cli_release, also after a
 * failure. USAGE, OS. */
status cli_parse(cli_args *out, const cli_command *command, int argc, char **argv);
void cli_release(cli_args *args);

/* Help of the whole program, and of one command or group. At most 80 columns wide. */
void cli_print_help(FILE *to);
void cli_print_command_help(FILE *to, const cli_command *command);

/* What main does but for printing the error and leaving: finds the command, parses, runs it. */
status cli_run(int argc, char **argv);

#endif
