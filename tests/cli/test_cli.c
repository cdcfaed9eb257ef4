/* The parser of command lines, and the help of every command. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { MOST_WORDS = 32 };

static status nothing(const cli_args *args) {
    (void)args;
    return STATUS_OK;
}

static const cli_option options[] = {
    {.name = "in", .value = "FILE", .help = "input", .required = true},
    {.name = "attr", .value = "K=V", .help = "attribute", .repeated = true},
    {.name = "device", .value = "NAME", .help = "where", .choices = "cpu|cuda"},
    {.name = "images", .value = "N", .help = "how many"},
    {.name = "full", .help = "everything"},
    {0},
};

static const cli_command with_arguments = {.name = "some",
                                           .options = options,
                                           .argument = "IMAGE",
                                           .min_arguments = 1,
                                           .max_arguments = CLI_ANY_COUNT,
                                           .overrides = true,
                                           .run = nothing};
static const cli_command with_overrides = {
    .name = "other", .options = options, .overrides = true, .run = nothing};

/* The words of a line, without quotes; a redirection ends it. Words point into `text`. */
static int split(char *text, char **words) {
    int n = 0;
    char *p = text;
    while (*p && n < MOST_WORDS) {
        p += strspn(p, " ");
        if (!*p || *p == '>' || *p == '|') break;
        if (*p == '"' || *p == '\'') {
            char quote = *p++;
            words[n++] = p;
            p += strcspn(p, (char[]){quote, 0});
        } else {
            words[n++] = p;
            p += strcspn(p, " ");
        }
        if (*p) *p++ = '\0';
    }
    return n;
}

static status parse(cli_args *out, const cli_command *command, const char *line) {
    static char text[512];
    static char *words[MOST_WORDS];
    snprintf(text, sizeof text, "%s", line);
    return cli_parse(out, command, split(text, words), words);
}

static void test_options(void **state) {
    (void)state;
    cli_args args;
    assert_int_equal(
        parse(&args, &with_arguments, "--in a.bin --attr x=1 --attr=y=2 --full a.jpg --device=cpu b.jpg"),
        STATUS_OK);
    assert_string_equal(cli_value(&args, "in"), "a.bin");
    assert_string_equal(cli_nth_value(&args, "attr", 0), "x=1");
    assert_string_equal(cli_nth_value(&args, "attr", 1), "y=2");
    assert_null(cli_nth_value(&args, "attr", 2));
    assert_string_equal(cli_value(&args, "device"), "cpu");
    assert_true(cli_flag(&args, "full"));
    assert_null(cli_value(&args, "images"));
    assert_int_equal(args.argument_count, 2);
    assert_string_equal(args.arguments[1], "b.jpg");
    int64_t n = 0;
    assert_int_equal(cli_int(&n, &args, "images", 1, 10, 7), STATUS_OK);
    assert_int_equal(n, 7);
    cli_release(&args);
}

static void test_overrides(void **state) {
    (void)state;
    cli_args args;
    assert_int_equal(
        parse(&args, &with_arguments, "--in a img.jpg MODEL.WEIGHTS --full SEED -1 --full SEED=3 odd 4"),
        STATUS_OK);
    assert_int_equal(args.argument_count, 1);
    assert_int_equal(args.override_count, 7);
    assert_string_equal(args.overrides[1], "--full"); /* a key's value, whatever it looks like */
    assert_string_equal(args.overrides[3], "-1");
    assert_string_equal(args.overrides[4], "SEED=3");
    assert_string_equal(args.overrides[5], "odd"); /* once overrides have begun, everything is one */
    assert_true(cli_flag(&args, "full"));
    cli_release(&args);
    assert_int_equal(parse(&args, &with_overrides, "nonsense 3 --in a"), STATUS_OK);
    assert_int_equal(args.override_count, 2);
    assert_int_equal(args.argument_count, 0);
    cli_release(&args);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *cause;
    } cases[] = {
        {"--in", "some: --in has no value"},         {"--in --full", "some: --in has no value"},
        {"--inn a", "some: unknown option --inn"},   {"--in=a --in=b x", "some: --in stands twice"},
        {"--full=1", "some: --full takes no value"}, {"--device tpu --in a x", "some: --device tpu"},
        {"x", "some: --in FILE is missing"},         {"--in a", "some: IMAGE is missing"},
        {"-v", "some: unknown option -v"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cli_args args;
        assert_int_equal(parse(&args, &with_arguments, cases[i].line), STATUS_USAGE);
        if (!strstr(error_cause(), cases[i].cause))
            fail_msg("%s: cause \"%s\"", cases[i].line, error_cause());
        cli_release(&args);
    }
    static const char *const numbers[] = {"0", "11", "x", "", "5x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        cli_args args;
        char line[64];
        int64_t n;
        snprintf(line, sizeof line, "--in a --images=%s x", numbers[i]);
        assert_int_equal(parse(&args, &with_arguments, line), STATUS_OK);
        assert_int_equal(cli_int(&n, &args, "images", 1, 10, 7), STATUS_USAGE);
        assert_non_null(strstr(error_cause(), "--images"));
        cli_release(&args);
    }
}

/* At most 60 lines of 80 columns, with every option in them. */
static void check_help(const char *help, const cli_command *command) {
    int lines = 0;
    for (const char *line = help; *line; line += strcspn(line, "\n") + 1, lines++)
        if (strcspn(line, "\n") > 80)
            fail_msg("%s --help: wider than 80: %.*s", command->name, (int)strcspn(line, "\n"), line);
    if (lines > 60) fail_msg("%s --help: %d lines", command->name, lines);
    for (const cli_option *o = command->options; o && o->name; o++) {
        char text[64];
        snprintf(text, sizeof text, "  --%s", o->name);
        if (!strstr(help, text)) fail_msg("%s --help lacks --%s", command->name, o->name);
    }
}

/* Each example is a command line that names the command, or a member of the group, and that the parser accepts. */
static void check_example(const cli_command *command, const char *example) {
    char text[512], *words[MOST_WORDS];
    snprintf(text, sizeof text, "%s", example);
    int n = split(text, words), at = 0, name_words;
    while (at < n && strcmp(words[at], "maskrcnn") != 0) at++;
    const cli_command *named = NULL;
    bool is_found = at < n && cli_find(&named, &name_words, n - at - 1, words + at + 1) == STATUS_OK && named;
    if (!is_found || strncmp(named->name, command->name, strlen(command->name)) != 0 || named->members)
        fail_msg("no example of %s: %s", command->name, example);
    cli_args args;
    at += 1 + name_words;
    if (cli_parse(&args, named, n - at, words + at) != STATUS_OK) fail_msg("%s: %s", example, error_cause());
    cli_release(&args);
}

/* In the list that its parent prints, under its last word; with all options and three examples. */
static void check_command(const char *list, const cli_command *command) {
    char listed[64], *help = NULL;
    size_t size = 0;
    const char *space = strchr(command->name, ' ');
    snprintf(listed, sizeof listed, "\n  %s ", space ? space + 1 : command->name);
    if (!strstr(list, listed)) fail_msg("--help lacks %s", command->name);
    FILE *to = open_memstream(&help, &size);
    assert_non_null(to);
    cli_print_command_help(to, command);
    fclose(to);
    check_help(help, command);
    for (int k = 0; k < CLI_EXAMPLES; k++) {
        if (!command->examples[k]) fail_msg("%s has %d examples, not %d", command->name, k, CLI_EXAMPLES);
        check_example(command, command->examples[k]);
    }
    for (int i = 0; command->members && command->members[i]; i++) {
        size_t length = strlen(command->name);
        assert_int_equal(strncmp(command->members[i]->name, command->name, length), 0);
        assert_int_equal(command->members[i]->name[length], ' ');
        check_command(help, command->members[i]);
    }
    free(help);
}

static void test_help(void **state) {
    (void)state;
    int count;
    const cli_command *const *commands = cli_commands(&count);
    char *general = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&general, &size);
    assert_non_null(to);
    cli_print_help(to);
    fclose(to);
    for (const char *line = general; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
    for (int i = 0; i < count; i++) check_command(general, commands[i]);
    assert_null(commands[count]);
    free(general);
}

static void test_groups(void **state) {
    (void)state;
    static const struct {
        const char *line, *name; /* NULL: refused */
        int words;
    } cases[] = {{"bench", "bench", 1},  {"bench op x", "bench op", 2}, {"bench --help", "bench", 1},
                 {"bench opp", NULL, 0}, {"op bench", "op", 1},         {"bench bench", NULL, 0},
                 {"op", "op", 1},        {"bench op op", "bench op", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64], *words[MOST_WORDS];
        snprintf(text, sizeof text, "%s", cases[i].line);
        int n = split(text, words), name_words;
        const cli_command *found;
        status s = cli_find(&found, &name_words, n, words);
        assert_int_equal(s, cases[i].name ? STATUS_OK : STATUS_USAGE);
        if (s != STATUS_OK) continue;
        assert_string_equal(found->name, cases[i].name);
        assert_int_equal(name_words, cases[i].words);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options), cmocka_unit_test(test_overrides), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_help),    cmocka_unit_test(test_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
