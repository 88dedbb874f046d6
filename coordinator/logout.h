/*
 * coordinator/logout.h - does somebody who logs out lose the run's memory?
 *
 * systemd-logind removes shared memory of a user whose last session ends (RemoveIPC=yes,
 * its default), also under processes that go on in the background. Mapped objects live
 * on, but nobody can open them any more: the first process that is started again would
 * end the run.
 */
#ifndef CLLM_COORDINATOR_LOGOUT_H
#define CLLM_COORDINATOR_LOGOUT_H

#include "base/base.h"

/* Where logind keeps what it knows; tests have their own. */
struct cllm_logout_paths {
    const char *running; /* exists while systemd-logind runs */
    const char *linger;  /* directory with an entry for each user that lingers */
    /* logind.conf and directories with *.conf, the ones that count more later; NULL ends
     */
    const char *const *config;
};
extern const struct cllm_logout_paths cllm_logout_paths;

/*
 * Would objects of user @uid, who is called @name (NULL: unknown), be removed at the end
 * of their last session? System users (below 1000) are spared by logind.
 */
bool cllm_logout_removes(const struct cllm_logout_paths *paths, uint32_t uid,
                         const char *name);

/* Warn, with the remedy, when that holds for the user of this process. */
void cllm_logout_warn(void);

#endif /* CLLM_COORDINATOR_LOGOUT_H */
