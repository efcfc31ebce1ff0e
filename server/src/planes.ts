import type { RequestListener } from 'node:http';
import type { Config } from './config.ts';
import { type Listener, openListener } from './http/index.ts';

/** The two planes' ports, opened before anything else is started, so that a port that is taken is heard of at once. */
export interface Planes {
  /** Begins to answer; until then every request gets a 503. */
  serve(handlers: { control: RequestListener; gateway: RequestListener }): void;
  /** Lets requests end, up to the deadline. */
  close(deadlineSeconds: number): Promise<void>;
}

const notReady: RequestListener = (_request, response) => {
  response.writeHead(503, { 'retry-after': '1' }).end('starting\n');
};

/** Takes the ports of this process's roles. Throws `StartupError` where one is in use. */
export async function openPlanes(config: Config): Promise<Planes> {
  const current = { control: notReady, gateway: notReady };
  const wanted = [
    { plane: 'control', role: 'control', port: config.port, portVariable: 'PORT' },
    { plane: 'gateway', role: 'gateway', port: config.gatewayPort, portVariable: 'GATEWAY_PORT' },
  ] as const;
  const listeners: Listener[] = [];
  try {
    for (const { plane, role, ...options } of wanted) {
      if (!config.roles.has(role)) continue;
      const onRequest: RequestListener = (request, response) => current[plane](request, response);
      listeners.push(await openListener({ hosts: config.hosts, onRequest, ...options }));
    }
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close(0)));
    throw error;
  }
  return {
    serve: (handlers) => Object.assign(current, handlers),
    async close(deadlineSeconds) {
      await Promise.all(listeners.map((listener) => listener.close(deadlineSeconds)));
    },
  };
}
