/* Counts how often each block of a program runs: a plugin of QEMU. Its arguments are a file, which
 * is mapped as the table of `block`s, and the addresses between which blocks count.
 *
 * The few declarations of QEMU's plugin interface stand here, since not every package of it brings
 * <qemu-plugin.h>; qemu_version.h has the version of the interface that this QEMU takes. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block_table.h"
#include "qemu_version.h"

typedef uint64_t plugin_id;
typedef struct qemu_plugin_tb qemu_plugin_tb;
typedef struct qemu_plugin_insn qemu_plugin_insn;

extern const int qemu_plugin_version;
const int qemu_plugin_version = QEMU_PLUGIN_VERSION;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*see)(plugin_id, qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(qemu_plugin_tb *tb, void (*run)(unsigned, void *),
                                          int flags, void *data);
size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const qemu_plugin_tb *tb);
qemu_plugin_insn *qemu_plugin_tb_get_insn(const qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const qemu_plugin_insn *instruction);

static block *blocks;
static uint64_t mask, start, end;

static void run(unsigned core, void *data)
{
    (void)core;
    ((block *)data)->runs++;
}

static void see(plugin_id id, qemu_plugin_tb *tb)
{
    const uint64_t address = qemu_plugin_tb_vaddr(tb);
    const size_t last = qemu_plugin_tb_n_insns(tb) - 1;
    (void)id;
    if (address < start || address >= end) {
        return;
    }
    /* The bytes end within the last instruction: at the end of a page QEMU (7.2) tells a size of it
     * that is too large. */
    const uint64_t begin = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, last));
    block *const entry = block_of(blocks, mask, address, (uint32_t)(begin - address) + 2);
    if (entry == NULL) {
        abort(); /* it has room for every block of a program */
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, run, 0, entry);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info,
                                                               int argc, char **argv)
{
    (void)info;
    if (argc != 3) {
        return -1;
    }
    const int file = open(strchr(argv[0], '=') + 1, O_RDWR);
    const off_t size = file < 0 ? -1 : lseek(file, 0, SEEK_END);
    void *const table = size <= 0
                            ? MAP_FAILED
                            : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (table == MAP_FAILED) {
        return -1;
    }
    blocks = table;
    mask = (uint64_t)size / sizeof blocks[0] - 1;
    start = strtoull(strchr(argv[1], '=') + 1, NULL, 0);
    end = strtoull(strchr(argv[2], '=') + 1, NULL, 0);
    qemu_plugin_register_vcpu_tb_trans_cb(id, see);
    return 0;
}
