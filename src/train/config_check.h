/* Checks that join several keys. Used by config.c only. */
#ifndef TRAIN_CONFIG_CHECK_H
#define TRAIN_CONFIG_CHECK_H

#include "train/config.h"

/* CONFIG, naming the keys that do not fit together. */
status config_check(const config *cfg);

#endif
