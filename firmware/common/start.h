/* start.h: what every core does between its reset and main. */
#ifndef START_H
#define START_H

/* Fills RAM and calls main; the stack pointer is set. Never returns. */
void start(void);

#endif
