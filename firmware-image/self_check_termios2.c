/* For the self-check under qemu-user alone, which knows no TCGETS2 and TCSETS2 (up to 7.2 at least): serial lines with any speed are set by these.
 * They become TCGETS and TCSETS. Pseudo terminals have no speed, so nothing is lost. */
#define _GNU_SOURCE
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* `struct termios` of the kernel is the beginning of `struct termios2`. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	/* On 32 bits the number may come with its sign. */
	unsigned int number = request;
	if (number == TCGETS2) {
		struct termios2 *asked = argument;
		asked->c_ispeed = asked->c_ospeed = 115200;
		return syscall(SYS_ioctl, fd, TCGETS, asked);
	}
	if (number == TCSETS2 || number == TCSETSW2 || number == TCSETSF2) {
		struct termios2 wanted;
		memcpy(&wanted, argument, sizeof wanted);
		wanted.c_cflag = (wanted.c_cflag & ~(CBAUD | CBAUD << IBSHIFT)) | B115200;
		return syscall(SYS_ioctl, fd, TCSETS + (number - TCSETS2), &wanted);
	}
	return syscall(SYS_ioctl, fd, number, argument);
}
