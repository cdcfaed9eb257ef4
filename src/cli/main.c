#include "cli/cli.h"
#include "comm/rank_env.h"

#include <stdio.h>

/* Says once per job what went wrong. A rank that failed only because another one did has no text of its own. */
static void report(status s) {
    /* Reading the environment may be what failed: then its message must stay, and one rank is assumed. */
    rank_env env;
    char cause[2048], remedy[2048];
    snprintf(cause, sizeof cause, "%s", error_cause());
    snprintf(remedy, sizeof remedy, "%s", error_remedy());
    if (rank_env_read(&env) != STATUS_OK) env = (rank_env){.size = 1};
    if (cause[0])
        error_set(s, remedy, "%s", cause);
    else if (env.size == 1)
        error_set(s, NULL, "%s", status_text(s));
    rank_env_report_error(&env);
}

int main(int argc, char **argv) {
    status s = cli_run(argc, argv);
    if (s != STATUS_OK) report(s);
    return (int)s;
}
