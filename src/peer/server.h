/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the owner's end: takes connections of peers and answers them, each on a thread of its own. What peers say is checked; nothing that one does, or leaves
 * undone, holds up another or the owner for more than a bounded time.
 */
#ifndef VARVE_PEER_SERVER_H
#define VARVE_PEER_SERVER_H

#include "store/store.h"

struct server;

/* Listen in the store's directory, which this process owns. On failure there is no server, and the store is used by one process. */
int server_create(varve_store *store, struct server **out, varve_error *err);

/*
 * End all connections; puts of peers that are under way may end first, for a moment. Peers that reconnect find nobody until there is an owner again. NULL is a
 * no-op.
 */
void server_destroy(struct server *server);

#endif
