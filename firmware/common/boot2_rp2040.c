/* boot2_rp2040.c: the second stage of RP2040's boot, the first 256 bytes of its flash.
 *
 * The boot ROM copies them into RAM, checks their CRC-32 (polynomial 0x04C11DB7 from all ones on,
 * not reflected; the last 4 bytes) and calls them. They have the flash appear at 0x10000000, read
 * by the command 03h, which every serial flash knows, and enter the firmware behind them; or return
 * where they were called from elsewhere. Registers: RP2040 Datasheet, chapters "SSI" and "Bootrom".
 */

/* SSIENR: off. BAUDR: clk_sys / 4, below 50 MHz. CTRLR0: 32 bits, EEPROM read. CTRLR1: one word.
 * SPI_CTRLR0: command 03h of 8 bits, 24 bits of address, all on one line. SSIENR: on. Then VTOR,
 * stack pointer and Reset_Handler. Whoever changes an instruction learns the new CRC-32 from
 * tests/test_pico.py. */
__asm__(".pushsection .first, \"ax\", %progbits\n"
        ".syntax unified\n"
        ".thumb\n"
        ".balign 4\n"
        "boot2:\n"
        "push {lr}\n"
        "ldr r3, boot2_ssi\n"
        "movs r1, #0\n"
        "str r1, [r3, #0x08]\n"
        "movs r1, #4\n"
        "str r1, [r3, #0x14]\n"
        "ldr r1, boot2_ctrlr0\n"
        "str r1, [r3, #0x00]\n"
        "movs r1, #0\n"
        "str r1, [r3, #0x04]\n"
        "ldr r0, boot2_spi_ctrlr0_address\n"
        "ldr r1, boot2_spi_ctrlr0\n"
        "str r1, [r0]\n"
        "movs r1, #1\n"
        "str r1, [r3, #0x08]\n"
        "pop {r0}\n"
        "cmp r0, #0\n"
        "beq boot2_enter\n"
        "bx r0\n"
        "boot2_enter:\n"
        "ldr r0, boot2_vectors\n"
        "ldr r1, boot2_vtor\n"
        "str r0, [r1]\n"
        "ldmia r0, {r0, r1}\n"
        "msr msp, r0\n"
        "bx r1\n"
        ".balign 4\n"
        "boot2_ssi: .word 0x18000000\n"
        "boot2_ctrlr0: .word 0x001F0300\n"
        "boot2_spi_ctrlr0_address: .word 0x180000F4\n"
        "boot2_spi_ctrlr0: .word 0x03000218\n"
        "boot2_vectors: .word 0x10000100\n"
        "boot2_vtor: .word 0xE000ED08\n"
        ".space 252 - (. - boot2)\n"
        ".word 0xD5275755\n"
        ".popsection\n");
