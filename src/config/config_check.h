/* Checks that join several keys. Used by config.c only. */
#ifndef CONFIG_CONFIG_CHECK_H
#define CONFIG_CONFIG_CHECK_H

#include "config/config.h"

/* CONFIG, naming the keys that do not fit together. */
status config_check(const config *cfg);

/* The part about the kind of model: config_model.c. */
status config_check_model(const config *cfg);

#endif
