import type { FastifyInstance, FastifyRequest } from 'fastify';

/** Reads a body in JSON as Fastify does, and an empty one as `{}`. Throws Fastify's own errors. */
export function createJsonReader(
  app: Pick<FastifyInstance, 'getDefaultJsonParser'>,
): (text: string) => unknown {
  const parse = app.getDefaultJsonParser('error', 'error');
  return (text) => {
    if (text === '') return {};
    let outcome: { error: Error | null; body?: unknown } | undefined;
    // It calls back before it returns, and doesn't look at the request.
    void parse({} as FastifyRequest, text, (error, body) => {
      outcome = { error, body };
    });
    if (outcome?.error) throw outcome.error;
    return outcome?.body;
  };
}
