#include "cli/cli.h"

#include <string.h>

enum { COLUMNS = 80, OPTION_COLUMN = 26, COMMAND_COLUMN = 12, MEMBER_COLUMN = 14 };

/* Prints `text` from column `at`, broken at spaces; further lines start at column `indent`. Ends the line. */
static void print_wrapped(FILE *to, const char *text, int at, int indent) {
    int column = at;
    for (const char *word = text; *word;) {
        int length = (int)strcspn(word, " ");
        if (column + length + 1 > COLUMNS && column > indent) {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
        } else if (word != text) {
            fputc(' ', to);
            column++;
        }
        fprintf(to, "%.*s", length, word);
        column += length;
        word += length;
        word += strspn(word, " ");
    }
    fputc('\n', to);
}

/* A left column, then wrapped text; the text starts a line of its own where the left column is too wide. */
static void print_row(FILE *to, const char *left, const char *text, int indent) {
    int width = fprintf(to, "  %s", left);
    if (width + 2 > indent) {
        fputc('\n', to);
        width = 0;
    }
    fprintf(to, "%*s", indent - width, "");
    print_wrapped(to, text, indent, indent);
}

static void print_option(FILE *to, const cli_option *o) {
    char left[128], text[512];
    snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    snprintf(text, sizeof text, "%s%s%s%s%s", o->help, o->choices ? " (" : "", o->choices ? o->choices : "",
             o->choices ? ")" : "",
             o->required   ? " (required)"
             : o->repeated ? " (may be repeated)"
                           : "");
    print_row(to, left, text, OPTION_COLUMN);
}

static void print_options(FILE *to, const cli_command *command) {
    fputs("\noptions:\n", to);
    for (const cli_option *o = command->options; o->name; o++) print_option(to, o);
    print_row(to, "--help", "show this", OPTION_COLUMN);
    if (command->overrides)
        print_row(to, "KEY VALUE, KEY=VALUE", "set a configuration key (maskrcnn config --keys lists them)",
                  OPTION_COLUMN);
}

static void print_members(FILE *to, const cli_command *group) {
    fputs("\ncommands:\n", to);
    for (const cli_command *const *m = group->members; *m; m++)
        print_row(to, strchr((*m)->name, ' ') + 1, (*m)->summary, MEMBER_COLUMN);
    fprintf(to, "\nmaskrcnn %s COMMAND --help explains a command.\n", group->name);
}

void cli_print_command_help(FILE *to, const cli_command *command) {
    fprintf(to, "maskrcnn %s: ", command->name);
    print_wrapped(to, command->summary, (int)strlen(command->name) + 11, 2);
    int at = fprintf(to, "\nusage: maskrcnn %s%s", command->name, *command->usage ? " " : "") - 1;
    print_wrapped(to, command->usage, at, 9);
    if (command->details) {
        fputc('\n', to);
        print_wrapped(to, command->details, 0, 0);
    }
    if (command->members)
        print_members(to, command);
    else
        print_options(to, command);
    fputs("\nexamples:\n", to);
    for (int i = 0; i < CLI_EXAMPLES && command->examples[i]; i++) {
        fputs("  ", to);
        print_wrapped(to, command->examples[i], 2, 6);
    }
}

void cli_print_help(FILE *to) {
    fputs("maskrcnn " MASKRCNN_VERSION ": trains Mask R-CNN on COCO-format data\n\n"
          "usage: maskrcnn COMMAND [OPTIONS] [KEY VALUE...]\n"
          "       mpirun -n RANKS maskrcnn train ...\n\n"
          "commands:\n",
          to);
    int n;
    const cli_command *const *commands = cli_commands(&n);
    for (int i = 0; i < n; i++) print_row(to, commands[i]->name, commands[i]->summary, COMMAND_COLUMN);
    fputs("\nmaskrcnn COMMAND --help explains a command; --version prints the version.\n"
          "\nexit codes:\n",
          to);
    static const struct {
        int code;
        const char *text;
    } codes[] = {
#define STATUS(name, code, text) {code, text},
#include "base/status.def"
#undef STATUS
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        fprintf(to, "  %2d  %s\n", codes[i].code, codes[i].text);
}
