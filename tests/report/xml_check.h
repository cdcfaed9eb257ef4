/* Whether a page is well-formed XML of the few kinds that reports use: elements, attributes in quotes, five entities. */
#ifndef TESTS_REPORT_XML_CHECK_H
#define TESTS_REPORT_XML_CHECK_H

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { XML_MAX_DEPTH = 32 };

static inline bool xml_entity(const char *s) {
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (int i = 0; i < 5; i++)
        if (strncmp(s, known[i], strlen(known[i])) == 0) return true;
    return false;
}

static inline size_t xml_name(const char *s) {
    size_t size = 0;
    while (isalnum((unsigned char)s[size]) || s[size] == '-') size++;
    return size;
}

/* From behind a tag's name to behind its '>'; NULL where something is wrong. */
static inline const char *xml_attributes(const char *s, bool *is_empty) {
    for (;;) {
        size_t space = strspn(s, " \n");
        s += space;
        *is_empty = s[0] == '/';
        if (*is_empty) s++;
        if (*s == '>') return s + 1;
        size_t name = xml_name(s);
        if (*is_empty || space == 0 || name == 0 || s[name] != '=' || s[name + 1] != '"') return NULL;
        for (s += name + 2; *s != '"'; s++)
            if (!*s || *s == '<' || *s == '>' || (*s == '&' && !xml_entity(s))) return NULL;
        s++;
    }
}

/* Where the text stops being well-formed; NULL where it does not. Several elements may follow each other. */
static inline const char *xml_fault(const char *text) {
    struct {
        const char *name;
        size_t size;
    } open[XML_MAX_DEPTH];
    int depth = 0;
    for (const char *s = text; *s;) {
        if ((unsigned char)*s < 0x20 && *s != '\n' && *s != '\t') return s;
        if (strncmp(s, "<!DOCTYPE html>", 15) == 0) {
            s += 15;
        } else if (s[0] == '<' && s[1] == '/') {
            size_t size = xml_name(s + 2);
            if (depth == 0 || open[depth - 1].size != size ||
                strncmp(open[depth - 1].name, s + 2, size) != 0 || s[2 + size] != '>')
                return s;
            depth--;
            s += size + 3;
        } else if (*s == '<') {
            bool is_empty;
            size_t size = xml_name(s + 1);
            const char *end = size ? xml_attributes(s + 1 + size, &is_empty) : NULL;
            if (!end || depth == XML_MAX_DEPTH) return s;
            if (!is_empty) {
                open[depth].name = s + 1;
                open[depth++].size = size;
            }
            s = end;
        } else if (*s == '>' || (*s == '&' && !xml_entity(s)))
            return s;
        else
            s++;
    }
    return depth ? open[depth - 1].name : NULL;
}

#endif
