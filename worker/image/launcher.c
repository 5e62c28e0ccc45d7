/* Starts the agent in any container, whatever C library its image has, or none: linked statically, it runs the agent's own
 * Python through the agent's own loader. Both lie beside it, wherever the folder was mounted or copied to.
 *
 * The environment of a container is its job's: HODEI_* excepted, every variable is handed on under the name
 * HODEI_JOB_ENV_..., so that neither the loader (LD_PRELOAD), the C library (GLIBC_TUNABLES), Python (PYTHONHOME) nor gRPC
 * (https_proxy) take for theirs what an image means for its own programs. The agent gives jobs the old names back. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWN "HODEI_"
#define JOB "HODEI_JOB_ENV_"

extern char **environ;

static int fail(const char *what) {
    fprintf(stderr, "hodei-jobs-worker: %s: %s\n", what, strerror(errno));
    return 127;
}

int main(int argc, char **argv) {
    char self[PATH_MAX], loader[PATH_MAX + 32], library[PATH_MAX + 32], python[PATH_MAX + 32], app[PATH_MAX + 32];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) return fail("/proc/self/exe can't be read");
    self[length] = 0;
    *strrchr(self, '/') = 0;
    snprintf(loader, sizeof loader, "%s/lib/ld.so", self);
    snprintf(library, sizeof library, "%s/lib", self);
    snprintf(python, sizeof python, "%s/bin/python3", self);
    snprintf(app, sizeof app, "%s/app", self);

    int count = 0;
    while (environ[count]) count++;
    char **handed_on = calloc(count + 1, sizeof *handed_on);
    /* -I -S: nothing but the folder. -B: it may be read-only. -X utf8: whatever the locale. */
    char *fixed[] = {"hodei-worker", "--inhibit-cache", "--library-path", library, "--argv0", python,
                     python, "-I", "-S", "-B", "-X", "utf8", app};
    size_t fixed_count = sizeof fixed / sizeof *fixed;
    char **arguments = calloc(fixed_count + argc, sizeof *arguments);
    if (!handed_on || !arguments) return fail("no memory");
    for (int i = 0; i < count; i++) {
        handed_on[i] = environ[i];
        if (strncmp(environ[i], OWN, strlen(OWN)) == 0) continue;
        handed_on[i] = malloc(strlen(JOB) + strlen(environ[i]) + 1);
        if (!handed_on[i]) return fail("no memory");
        strcat(strcpy(handed_on[i], JOB), environ[i]);
    }
    memcpy(arguments, fixed, sizeof fixed);
    memcpy(arguments + fixed_count, argv + 1, argc * sizeof *argv);
    execve(loader, arguments, handed_on);
    return fail(loader);
}
