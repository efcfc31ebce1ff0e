import { readFile } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';

const securityHeaders = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-cache',
};

/** Serves the console's files. The page is one; which view it shows is read from its path. */
export async function addConsolePages(app: FastifyInstance, directory: URL): Promise<void> {
  const html = 'text/html; charset=utf-8';
  const script = 'text/javascript; charset=utf-8';
  const files = {
    '/': { name: 'index.html', type: html },
    '/mandates/:id': { name: 'index.html', type: html },
    '/links/:id': { name: 'index.html', type: html },
    '/console.css': { name: 'console.css', type: 'text/css; charset=utf-8' },
    '/console.js': { name: 'console.js', type: script },
    '/link.js': { name: 'link.js', type: script },
    '/mandate.js': { name: 'mandate.js', type: script },
    '/overview.js': { name: 'overview.js', type: script },
    '/page.js': { name: 'page.js', type: script },
    '/favicon.svg': { name: 'favicon.svg', type: 'image/svg+xml' },
  };
  for (const [path, { name, type }] of Object.entries(files)) {
    const content = await readFile(new URL(name, directory));
    app.get(path, (_request, reply) => reply.headers(securityHeaders).type(type).send(content));
  }
}
