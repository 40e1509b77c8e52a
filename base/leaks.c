/* SPDX-License-Identifier: MIT */
/* base/leaks.c - in builds with the address sanitizer alone: look for leaks while the threads still
 * wait. Left to itself, the sanitizer looks after the libraries have ended their threads, and now
 * and then it meets one that is half gone and crashes ("Tracer caught signal 11"), whatever the
 * program did. A program's own destructors run before its libraries'. The sanitizer looks once; it
 * ends the program itself when it finds something. */
#include <sanitizer/lsan_interface.h>

/* Named to the linker in meson.build, since nothing calls it. */
void nib_leaks_look(void);

__attribute__((destructor)) void nib_leaks_look(void)
{
    __lsan_do_leak_check();
}
