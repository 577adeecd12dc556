/* link_checkpoint.c: what is saved and loaded over the line is a checkpoint. */
#include "checkpoint.h"
#include "link.h"

int link_save(const void *params)
{
    return checkpoint_save(link_network.hash, params, link_network.params_bytes);
}

int link_load(void *params)
{
    return checkpoint_load(link_network.hash, params, link_network.params_bytes);
}
