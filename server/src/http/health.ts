import { Type } from 'typebox';
import { AppError } from '../kernel/errors.ts';
import { defineRoute, type Route } from './route.ts';

const Health = Type.Object({ status: Type.Literal('ok') });

const ok = { status: 'ok' } as const;

const health = {
  method: 'GET',
  auth: [],
  scopes: [],
  limit: 'open',
  status: 200,
  schema: { response: Health },
} as const;

/** `live`: the process answers. `ready`: it has its database and isn't stopping, so that calls may be sent to it. */
export function healthRoutes(isReady: () => Promise<boolean>): Route[] {
  return [
    defineRoute({
      ...health,
      id: 'health.live',
      summary: 'The process is up',
      path: '/health/live',
      errors: [],
      handler: async () => ok,
    }),
    defineRoute({
      ...health,
      id: 'health.ready',
      summary: 'The process can take calls',
      path: '/health/ready',
      errors: ['unavailable'],
      handler: async () => {
        if (!(await isReady()))
          throw new AppError('unavailable', 'Not ready: starting, stopping, or without a database');
        return ok;
      },
    }),
  ];
}
