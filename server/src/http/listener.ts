import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { limits } from '../kernel/limits.ts';
import { StartupError } from '../kernel/startup-error.ts';

export interface Listener {
  port: number;
  /** Takes no new connection, lets requests end, and cuts those that are left at the deadline. */
  close(deadlineSeconds: number): Promise<void>;
}

/**
 * Opens one HTTP port on each host: `127.0.0.1` and `::1` are two sockets of one server to its users.
 * Throws `StartupError` with the setting to change where the port is taken.
 */
export async function openListener(options: {
  hosts: readonly string[];
  port: number;
  /** The environment variable that moves it. */
  portVariable: string;
  onRequest: RequestListener;
}): Promise<Listener> {
  const servers: Server[] = [];
  const requests = followRequests(options.onRequest);
  let { port } = options;
  try {
    for (const host of options.hosts) {
      const server = createServer(
        {
          requestTimeout: 60_000,
          keepAliveTimeout: 65_000,
          // Node's own limit is one payment header's, and is answered with an empty 431: ours says what is too long.
          maxHeaderSize: 2 * limits.paymentHeaderBytes,
        },
        requests.onRequest,
      );
      const opened = await listenOn(server, host, port, options.portVariable);
      if (opened === undefined) continue;
      servers.push(server);
      port = opened;
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  if (servers.length === 0)
    throw new StartupError(`no address to listen on: none of ${options.hosts.join(', ')} is here`);

  return {
    port,
    async close(deadlineSeconds) {
      const closed = Promise.all(servers.map((server) => closeServer(server)));
      requests.endConnections();
      const deadline = new AbortController();
      const cut = sleep(deadlineSeconds * 1000, undefined, { signal: deadline.signal }).then(
        () => {
          for (const server of servers) server.closeAllConnections();
        },
        () => undefined,
      );
      await closed;
      deadline.abort();
      await cut;
    },
  };
}

/**
 * Knows which requests are under way. A server that closes waits for their connections, and Node keeps those that have
 * answered since until their keep-alive time is over.
 */
function followRequests(onRequest: RequestListener) {
  // By connection, not a set of responses: a table with that much coming and going is made anew time and again, and each that is left
  // behind keeps what it held from the collector of young garbage. That was 4 KB of every request.
  const answering = new Map<Socket, ServerResponse | undefined>();
  let ending = false;
  return {
    onRequest: ((request, response) => {
      const { socket } = request;
      if (!answering.has(socket)) socket.once('close', () => answering.delete(socket));
      answering.set(socket, response);
      response.once('close', () => {
        // A pipelined request may have come behind it.
        if (answering.get(socket) !== response) return;
        if (ending) socket.end();
        else answering.set(socket, undefined);
      });
      if (ending) response.shouldKeepAlive = false;
      onRequest(request, response);
    }) satisfies RequestListener,
    /** From now on a connection ends with the answer that is under way on it. */
    endConnections(): void {
      ending = true;
      // Says "Connection: close" where the head isn't sent yet.
      for (const response of answering.values()) if (response) response.shouldKeepAlive = false;
    },
  };
}

/** The port that was opened, or nothing where the machine has no such address (IPv6 switched off). */
async function listenOn(
  server: Server,
  host: string,
  port: number,
  variable: string,
): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRNOTAVAIL' || error.code === 'EAFNOSUPPORT') return resolve(undefined);
      if (error.code === 'EADDRINUSE') {
        return reject(
          new StartupError(
            `port ${port} on ${host} is in use: stop what uses it, or set ${variable} to another port`,
          ),
        );
      }
      if (error.code === 'EACCES')
        return reject(
          new StartupError(`port ${port} may not be opened by this user: set ${variable} to one above 1023`),
        );
      reject(error);
    });
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}
