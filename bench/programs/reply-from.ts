import replyFrom from '@fastify/reply-from';
import Fastify from 'fastify';

const app = Fastify({ logger: false });
await app.register(replyFrom, { base: process.env['UPSTREAM_URL'] ?? '', undici: { connections: 128 } });
app.get('/*', (request, reply) => reply.from(request.url));
process.stdout.write(`listening on ${await app.listen({ port: 0, host: '127.0.0.1' })}\n`);
