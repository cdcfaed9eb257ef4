#include "cli/cli.h"
#include "comm/rank_env.h"

int main(int argc, char **argv) {
    status s = cli_run(argc, argv);
    if (s != STATUS_OK) {
        if (!*error_cause()) error_set(s, NULL, "%s", status_text(s));
        /* Reading the environment may be what failed: then its message must stay, and one rank is assumed. */
        rank_env env = {.size = 1};
        char cause[2048], remedy[2048];
        snprintf(cause, sizeof cause, "%s", error_cause());
        snprintf(remedy, sizeof remedy, "%s", error_remedy());
        if (rank_env_read(&env) != STATUS_OK) env = (rank_env){.size = 1};
        error_set(s, remedy, "%s", cause);
        rank_env_report_error(&env);
    }
    return (int)s;
}
