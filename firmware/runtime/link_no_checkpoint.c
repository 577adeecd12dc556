/* link_no_checkpoint.c: for a device without memory for checkpoints. */
#include "link.h"

int link_save(const void *params)
{
    (void)params;
    return LINK_NO_MEMORY - LINK_CHECKPOINT;
}

int link_load(void *params)
{
    (void)params;
    return LINK_NO_MEMORY - LINK_CHECKPOINT;
}
