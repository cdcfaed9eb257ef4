#include "train/evaluate_pictures.h"

#include "base/file_util.h"
#include "base/log.h"
#include "draw/picture.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double least_score = 0.5; /* of a prediction that is drawn, as in detectron2's demo */

static void give_up(evaluate_pictures *p) {
    log_warn("evaluation", "no pictures: %s (%s)", error_cause(), error_remedy());
    error_clear();
    p->wanted = 0;
}

/* Whether a name is one of ours: three or more digits, '_', anything, ".png". */
static bool is_picture(const char *name) {
    size_t digits = strspn(name, "0123456789"), length = strlen(name);
    return digits >= 3 && name[digits] == '_' && length > digits + 4 &&
           strcmp(name + length - 4, ".png") == 0;
}

static void remove_old(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[PATH_MAX];
        if (is_picture(entry->d_name) && path_join(path, folder, entry->d_name) == STATUS_OK) unlink(path);
    }
    closedir(dir);
}

void evaluate_pictures_begin(evaluate_pictures *p, const config *cfg, const test_set *set, int count,
                             int ranks) {
    *p = (evaluate_pictures){.set = set, .masks = cfg->MODEL_MASK_ON, .ranks = ranks};
    int mine = (int)((dataset_image_count(set->set) + (uint32_t)ranks - 1) / (uint32_t)ranks);
    p->wanted = count < mine ? count : mine;
    if (p->wanted <= 0) return;
    status s = picture_check_built_in();
    if (s == STATUS_OK) s = path_join(p->folder, cfg->OUTPUT_DIR, "pictures");
    if (s == STATUS_OK) s = make_directories(p->folder);
    if (s == STATUS_OK)
        remove_old(p->folder);
    else
        give_up(p);
}

void evaluate_pictures_end(evaluate_pictures *p) {
    if (p->drawn > 0)
        log_info("evaluation", "%d picture%s in %s", p->drawn, p->drawn == 1 ? "" : "s", p->folder);
    truth_release(&p->truth);
}

/* The image's place among this rank's images, spread evenly: picture k shows image k * images / wanted. */
static bool is_wanted(const evaluate_pictures *p, uint32_t image) {
    uint64_t mine = (dataset_image_count(p->set->set) + (uint64_t)p->ranks - 1) / (uint64_t)p->ranks;
    uint64_t place = image / (uint64_t)p->ranks, wanted = (uint64_t)p->wanted;
    uint64_t k = (place * wanted + mine - 1) / mine; /* the first picture at this place or behind it */
    return k < wanted && k * mine / wanted == place;
}

static status draw(evaluate_pictures *p, const loader_sample *sample, const detection_list *found) {
    char name[160], path[PATH_MAX];
    const char *slash = strrchr(sample->file_name, '/'), *base = slash ? slash + 1 : sample->file_name;
    const char *dot = strrchr(base, '.');
    int stem = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    if (stem > 100) stem = 100;
    int at = snprintf(name, sizeof name, "%03d_", p->drawn + 1);
    for (int i = 0; i < stem; i++, at++) name[at] = base[i] == '\\' ? '_' : base[i];
    snprintf(name + at, sizeof name - (size_t)at, ".png");
    RETURN_IF_ERROR(path_join(path, p->folder, name));
    RETURN_IF_ERROR(truth_of_image(&p->truth, p->set->set, sample->image, p->masks));
    picture_image image = {
        .rgb = sample->pixels, .height = sample->height, .width = sample->width, .caption = base};
    picture_classes classes = {
        .names = p->set->map.names, .count = p->set->map.labels, .colours = p->set->map.categories};
    RETURN_IF_ERROR(picture_ground_truth_beside(path, &image, p->truth.items, p->truth.count, found, &classes,
                                                least_score));
    p->drawn++;
    return STATUS_OK;
}

void evaluate_pictures_draw(evaluate_pictures *p, const loader_sample *sample, const detection_list *found) {
    if (p->wanted > 0 && is_wanted(p, sample->image) && draw(p, sample, found) != STATUS_OK) give_up(p);
}
