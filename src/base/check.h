/* Checks that are always on. A failed CHECK is a programming error: it prints expression, message, place,
 * rank and host, calls the abort hook (which ends the whole job) and aborts. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (__builtin_expect(!(condition), 0))                                                               \
            check_failed(__FILE__, __LINE__, __func__, #condition, __VA_ARGS__);                             \
    } while (0)

void check_failed(const char *file, int line, const char *function, const char *expression,
                  const char *message, ...) __attribute__((noreturn, format(printf, 5, 6)));

/* Called once before abort(), e.g. to take the other ranks down with MPI_Abort; NULL removes it. */
void check_set_abort_hook(void (*hook)(void));

/* Rank shown in reports; -1 (the start value) means "no rank yet". */
void check_set_rank(int rank);

#endif
