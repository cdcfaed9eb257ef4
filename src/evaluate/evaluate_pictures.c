#include "evaluate/evaluate_pictures.h"

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

static void remove_old(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[PATH_MAX];
        if (test_pictures_is_name(entry->d_name) && path_join(path, folder, entry->d_name) == STATUS_OK)
            unlink(path);
    }
    closedir(dir);
}

void evaluate_pictures_begin(evaluate_pictures *p, const config *cfg, const test_set *set, int count,
                             int ranks) {
    *p = (evaluate_pictures){.ranks = ranks};
    p->pictures = (test_pictures){
        .folder = p->folder, .set = set, .masks = cfg->MODEL_MASK_ON, .least_score = least_score};
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
    int drawn = p->pictures.drawn;
    if (drawn > 0) log_info("evaluation", "%d picture%s in %s", drawn, drawn == 1 ? "" : "s", p->folder);
    test_pictures_release(&p->pictures);
}

/* The image's place among this rank's images, spread evenly: picture k shows image k * images / wanted. */
static bool is_wanted(const evaluate_pictures *p, uint32_t image) {
    uint64_t mine = (dataset_image_count(p->pictures.set->set) + (uint64_t)p->ranks - 1) / (uint64_t)p->ranks;
    uint64_t place = image / (uint64_t)p->ranks, wanted = (uint64_t)p->wanted;
    uint64_t k = (place * wanted + mine - 1) / mine; /* the first picture at this place or behind it */
    return k < wanted && k * mine / wanted == place;
}

void evaluate_pictures_draw(evaluate_pictures *p, const loader_sample *sample, const detection_list *found) {
    if (p->wanted > 0 && is_wanted(p, sample->image) &&
        test_pictures_draw(&p->pictures, sample, found) != STATUS_OK)
        give_up(p);
}
