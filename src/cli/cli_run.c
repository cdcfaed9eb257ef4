#include "base/nearest.h"
#include "cli/cli.h"
#include "comm/rank_env.h"

#include <errno.h>
#include <string.h>

static status unknown_command(const cli_command *const *commands, const cli_command *group,
                              const char *name) {
    char full[128], help[128];
    snprintf(full, sizeof full, "%s%s%.100s", group ? group->name : "", group ? " " : "", name);
    nearest n;
    nearest_init(&n, full);
    for (int i = 0; commands[i]; i++) nearest_try(&n, commands[i]->name);
    snprintf(help, sizeof help, "maskrcnn %s%s--help lists the commands", group ? group->name : "",
             group ? " " : "");
    const char *best = nearest_result(&n);
    error_set(STATUS_USAGE, help, "unknown command %s", full);
    if (best) error_set_remedy("did you mean %s?", best);
    return STATUS_USAGE;
}

/* Of the commands before NULL the one whose name ends with this word. */
static const cli_command *find_by_last_word(const cli_command *const *commands, const char *word) {
    for (; *commands; commands++) {
        const char *space = strchr((*commands)->name, ' ');
        if (strcmp(space ? space + 1 : (*commands)->name, word) == 0) return *commands;
    }
    return NULL;
}

status cli_find(const cli_command **out, int *name_words, int words, char **word) {
    int count;
    const cli_command *const *commands = cli_commands(&count), *group = NULL;
    for (*name_words = 0, *out = NULL; commands; commands = group->members) {
        if (*name_words == words || (group && word[*name_words][0] == '-')) break;
        const cli_command *found = find_by_last_word(commands, word[*name_words]);
        if (!found) return unknown_command(commands, group, word[*name_words]);
        *out = group = found;
        ++*name_words;
    }
    return STATUS_OK;
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
    if (command->members) {
        if (argc == 0) {
            error_set(STATUS_USAGE, "", "%s: no command given", command->name);
            error_set_remedy("maskrcnn %s --help lists the commands", command->name);
            return STATUS_USAGE;
        }
        bool is_help = strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0;
        if (is_help) cli_print_command_help(stdout, command);
        return is_help ? STATUS_OK
                       : error_set(STATUS_USAGE, "options follow the command; --help lists the commands",
                                   "unknown option %.100s before the command of %s", argv[0], command->name);
    }
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

/* `help`, with or without the name of a command behind it. */
static status print_help(int words, char **word) {
    const cli_command *command;
    int name_words;
    RETURN_IF_ERROR(cli_find(&command, &name_words, words, word));
    if (command)
        cli_print_command_help(stdout, command);
    else
        cli_print_help(stdout);
    return STATUS_OK;
}

status cli_run(int argc, char **argv) {
    if (argc < 2) return error_set(STATUS_USAGE, "maskrcnn --help lists the commands", "no command given");
    const char *name = argv[1];
    const cli_command *command;
    int name_words;
    status s = STATUS_OK;
    if (is_one(name, "--help", "-h") || strcmp(name, "help") == 0)
        s = print_help(argc - 2, argv + 2);
    else if (strcmp(name, "--version") == 0)
        puts("maskrcnn " MASKRCNN_VERSION);
    else if (name[0] == '-')
        s = error_set(STATUS_USAGE, "options follow the command: maskrcnn COMMAND --help",
                      "unknown option %.100s before the command", name);
    else if ((s = cli_find(&command, &name_words, argc - 1, argv + 1)) == STATUS_OK)
        s = run_command(command, argc - 1 - name_words, argv + 1 + name_words);
    return s == STATUS_OK ? flush_output() : s;
}
