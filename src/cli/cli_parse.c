#include "base/check.h"
#include "base/nearest.h"
#include "base/text.h"
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const cli_option *find_option(const cli_command *command, const char *name, size_t length) {
    for (const cli_option *o = command->options; o->name; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0) return o;
    return NULL;
}

static const char *help_remedy(const cli_command *command) {
    static _Thread_local char text[128];
    snprintf(text, sizeof text, "maskrcnn %s --help shows every option", command->name);
    return text;
}

static status unknown_option(const cli_command *command, const char *argument) {
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    nearest n;
    nearest_init(&n, name + strspn(name, "-"));
    for (const cli_option *o = command->options; o->name; o++) nearest_try(&n, o->name);
    const char *best = nearest_result(&n);
    error_set(STATUS_USAGE, help_remedy(command), "%s: unknown option %s", command->name, name);
    if (best) error_set_remedy("did you mean --%s?", best);
    return STATUS_USAGE;
}

/* The option at argv[*i]; moves *i to the last argument it took. */
static status parse_option(cli_args *out, int argc, char **argv, int *i) {
    const cli_command *command = out->command;
    const char *name = argv[*i] + 2;
    size_t length = strcspn(name, "=");
    const cli_option *o = find_option(command, name, length);
    if (!o) return unknown_option(command, argv[*i]);
    const char *value = name[length] ? name + length + 1 : NULL;
    if (!o->value && value)
        return error_set(STATUS_USAGE, help_remedy(command), "%s: --%s takes no value, but has \"%s\"",
                         command->name, o->name, value);
    if (o->value && !value) {
        if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
            return error_set(STATUS_USAGE, help_remedy(command), "%s: --%s has no value", command->name,
                             o->name);
        value = argv[++*i];
    }
    if (o->choices && !text_is_choice(o->choices, value)) {
        error_set(STATUS_USAGE, NULL, "%s: --%s %s: no such value", command->name, o->name, value);
        error_set_remedy("--%s takes one of %s", o->name, o->choices);
        return STATUS_USAGE;
    }
    for (int k = 0; k < out->given_count && !o->repeated; k++)
        if (out->given[k].option == o)
            return error_set(STATUS_USAGE, "give it once", "%s: --%s stands twice", command->name, o->name);
    out->given[out->given_count++] = (struct cli_given){.option = o, .value = value};
    return STATUS_OK;
}

static bool is_number(const char *text) {
    char *end;
    strtod(text, &end);
    return end != text && !*end;
}

/* An argument that is no option: positional, or the start of KEY VALUE. */
static status parse_argument(cli_args *out, int argc, char **argv, int *i) {
    const cli_command *command = out->command;
    char *argument = argv[*i];
    bool only_overrides = command->overrides && (!command->argument || out->override_count > 0 ||
                                                 out->argument_count >= command->max_arguments);
    if (command->overrides && (only_overrides || config_is_override(argument))) {
        out->overrides[out->override_count++] = argument;
        /* The value goes with its key whatever it looks like: -1 is no option here. */
        if (!strchr(argument, '=') && *i + 1 < argc) out->overrides[out->override_count++] = argv[++*i];
        return STATUS_OK;
    }
    if (!command->argument || out->argument_count >= command->max_arguments)
        return error_set(STATUS_USAGE, help_remedy(command), "%s: unexpected argument \"%s\"", command->name,
                         argument);
    out->arguments[out->argument_count++] = argument;
    return STATUS_OK;
}

static status parse_all(cli_args *out, int argc, char **argv) {
    bool options_over = false;
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        bool is_option = !options_over && a[0] == '-' && a[1] && !is_number(a);
        if (is_option && strcmp(a, "--") == 0)
            options_over = true;
        else if (is_option && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0))
            out->help = true;
        else if (is_option && a[1] == '-')
            RETURN_IF_ERROR(parse_option(out, argc, argv, &i));
        else if (is_option)
            return unknown_option(out->command, a);
        else
            RETURN_IF_ERROR(parse_argument(out, argc, argv, &i));
    }
    return STATUS_OK;
}

static bool was_given(const cli_args *args, const cli_option *o) {
    for (int k = 0; k < args->given_count; k++)
        if (args->given[k].option == o) return true;
    return false;
}

static status check_complete(const cli_args *args) {
    const cli_command *command = args->command;
    for (const cli_option *o = command->options; o->name; o++)
        if (o->required && !was_given(args, o))
            return error_set(STATUS_USAGE, help_remedy(command), "%s: --%s %s is missing", command->name,
                             o->name, o->value ? o->value : "");
    if (command->argument && args->argument_count < command->min_arguments)
        return error_set(STATUS_USAGE, help_remedy(command), "%s: %s is missing", command->name,
                         command->argument);
    return STATUS_OK;
}

status cli_parse(cli_args *out, const cli_command *command, int argc, char **argv) {
    size_t n = (size_t)argc + 1;
    *out = (cli_args){.command = command,
                      .given = calloc(n, sizeof *out->given),
                      .arguments = calloc(n, sizeof *out->arguments),
                      .overrides = calloc(n, sizeof *out->overrides)};
    if (!out->given || !out->arguments || !out->overrides)
        return error_set(STATUS_OS, "free some memory and start again", "out of memory for %d arguments",
                         argc);
    /* Help is given for whatever else the line says. */
    status s = parse_all(out, argc, argv);
    for (int i = 0; i < argc && s != STATUS_OK; i++)
        if (strcmp(argv[i], "--help") == 0) out->help = true;
    if (out->help) return STATUS_OK;
    return s == STATUS_OK ? check_complete(out) : s;
}

void cli_release(cli_args *args) {
    free(args->given);
    free(args->arguments);
    free(args->overrides);
    *args = (cli_args){0};
}

const char *cli_nth_value(const cli_args *args, const char *option, int i) {
    const cli_option *o = find_option(args->command, option, strlen(option));
    CHECK(o, "%s has no option --%s", args->command->name, option);
    for (int k = 0; k < args->given_count; k++)
        if (args->given[k].option == o && i-- == 0) return args->given[k].value;
    return NULL;
}

const char *cli_value(const cli_args *args, const char *option) {
    const char *value = NULL, *next;
    for (int i = 0; (next = cli_nth_value(args, option, i)) != NULL; i++) value = next;
    return value;
}

bool cli_flag(const cli_args *args, const char *option) {
    const cli_option *o = find_option(args->command, option, strlen(option));
    CHECK(o && !o->value, "%s has no flag --%s", args->command->name, option);
    return was_given(args, o);
}

status cli_int(int64_t *out, const cli_args *args, const char *option, int64_t lo, int64_t hi,
               int64_t fallback) {
    const char *text = cli_value(args, option);
    *out = fallback;
    if (!text) return STATUS_OK;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (*text && !*end && errno == 0 && v >= lo && v <= hi) {
        *out = v;
        return STATUS_OK;
    }
    return error_set(STATUS_USAGE, help_remedy(args->command),
                     "%s: --%s %s: expected an integer from %lld to %lld", args->command->name, option, text,
                     (long long)lo, (long long)hi);
}

status cli_fraction(double *out, const cli_args *args, const char *option, double fallback) {
    const char *text = cli_value(args, option);
    *out = fallback;
    if (!text) return STATUS_OK;
    char *end;
    double v = strtod(text, &end);
    if (end != text && !*end && v >= 0 && v <= 1) {
        *out = v;
        return STATUS_OK;
    }
    return error_set(STATUS_USAGE, help_remedy(args->command), "%s: --%s %s: expected a number from 0 to 1",
                     args->command->name, option, text);
}

/* The value of an option the command may not even have. */
static const char *optional_value(const cli_args *args, const char *option) {
    return find_option(args->command, option, strlen(option)) ? cli_value(args, option) : NULL;
}

status cli_load_config(config *out, const cli_args *args) {
    RETURN_IF_ERROR(config_load(out, cli_value(args, "config"), args->overrides, args->override_count));
    const char *weights = optional_value(args, "weights"), *device = optional_value(args, "device");
    status s = weights ? config_set(out, "MODEL.WEIGHTS", weights) : STATUS_OK;
    if (s == STATUS_OK && device) s = config_set(out, "MODEL.DEVICE", device);
    if (s != STATUS_OK) config_release(out);
    return s;
}
