import { readFileSync } from 'node:fs';
import { fastify, type FastifyInstance } from 'fastify';
import { beforeAll, describe, expect, it } from 'vitest';
import { addConsolePages } from './pages.ts';

const folder = new URL('../../../console/', import.meta.url);

describe("the console's pages", () => {
  let app: FastifyInstance;
  beforeAll(async () => {
    app = fastify();
    await addConsolePages(app, folder);
    await app.ready();
  });

  it.each(['/', '/mandates/dlg_any', '/links/lnk_any', '/console.js', '/console.css'])(
    '%s comes with a policy under which text cannot become a script',
    async (path) => {
      const { statusCode, headers } = await app.inject(path);
      expect(statusCode).toBe(200);
      const policy = String(headers['content-security-policy']).split('; ');
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("script-src 'self'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy.join()).not.toContain('unsafe');
    },
  );

  it('name only files that are served', async () => {
    const named = new Set<string>();
    const follow = async (path: string): Promise<void> => {
      if (named.has(path)) return;
      named.add(path);
      const { statusCode, body } = await app.inject(path);
      expect([path, statusCode]).toEqual([path, 200]);
      const files = body.matchAll(/(?:src|href|from )=?["'](?:\.?\/)([\w-]+\.(?:js|css|svg))["']/g);
      for (const [, file] of files) await follow(`/${file}`);
    };
    await follow('/');
    expect(named.size).toBeGreaterThan(5);
  });

  it.each(['console.js', 'link.js', 'mandate.js', 'overview.js', 'page.js'])(
    '%s puts what others wrote into the page as text, never as markup',
    (name) => {
      const source = readFileSync(new URL(name, folder), 'utf8');
      expect(source).not.toMatch(
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|setHTML/,
      );
    },
  );
});
