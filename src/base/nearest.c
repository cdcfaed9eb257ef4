#include "base/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { LONGEST = 127 };

static bool same_letter(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Optimal string alignment distance; rows i-2, i-1 and i of the usual table are kept. */
size_t edit_distance(const char *a, const char *b) {
    size_t n = strnlen(a, LONGEST), m = strnlen(b, LONGEST);
    size_t rows[3][LONGEST + 1];
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t replace = above[j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0 : 1);
            row[j] = smaller(replace, smaller(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]))
                row[j] = smaller(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

void nearest_init(nearest *n, const char *name) {
    *n = (nearest){.name = name, .distance = SIZE_MAX};
}

static size_t allowed_distance(const char *name) {
    size_t allowed = strnlen(name, LONGEST) / 3;
    return allowed < 2 ? 2 : allowed;
}

/* `part` of `candidate`, which costs `extra` edits more. The table is filled only where it can matter. */
static void try_part(nearest *n, const char *candidate, const char *part, size_t extra) {
    size_t a = strnlen(n->name, LONGEST), b = strnlen(part, LONGEST);
    size_t least = (a > b ? a - b : b - a) + extra;
    if (least >= n->distance || least > allowed_distance(n->name)) return;
    size_t distance = edit_distance(n->name, part) + extra;
    if (distance >= n->distance) return;
    n->distance = distance;
    n->best = candidate;
}

void nearest_try(nearest *n, const char *candidate) {
    try_part(n, candidate, candidate, 0);
    const char *dot = strrchr(candidate, '.');
    if (dot && !strchr(n->name, '.')) try_part(n, candidate, dot + 1, 1);
}

const char *nearest_result(const nearest *n) {
    size_t length = strnlen(n->name, LONGEST);
    return n->best && n->distance <= allowed_distance(n->name) && n->distance < length ? n->best : NULL;
}
