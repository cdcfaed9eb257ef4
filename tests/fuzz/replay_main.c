/* Runs a fuzz target on every file of the folders given: `fuzz_yaml seeds/yaml`. A folder that is missing or
 * empty fails. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes lie in a heap block of exactly their size, so that a sanitizer sees a read beyond them. */
static int replay_file(const char *path, const struct stat *info) {
    size_t size = (size_t)info->st_size;
    uint8_t *data = malloc(size ? size : 1);
    FILE *f = fopen(path, "rb");
    int good = data && f && fread(data, 1, size, f) == size;
    if (f) fclose(f);
    if (good)
        LLVMFuzzerTestOneInput(data, size);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    free(data);
    return good ? 0 : 1;
}

static int replay_folder(const char *folder) {
    struct dirent **names;
    int n = scandir(folder, &names, NULL, alphasort);
    int files = 0, failed = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        struct stat info;
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            printf("%s\n", path);
            fflush(stdout);
            failed += replay_file(path, &info);
            files++;
        }
        free(names[i]);
    }
    if (n >= 0) free(names);
    if (files == 0) fprintf(stderr, "%s: no files to replay\n", folder);
    return files == 0 || failed > 0;
}

int main(int argc, char **argv) {
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) failed |= replay_folder(argv[i]);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
