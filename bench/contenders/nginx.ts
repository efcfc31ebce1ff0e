import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findFreePort } from '../../server/test/helpers/instance.ts';
import type { Stage } from '../bench.ts';

/** What every upstream answers: JSON of one kibibyte. */
export const body = JSON.stringify({ text: 'a'.repeat(1024 - '{"text":""}'.length) });

export interface Nginx {
  url: string;
  pid: number;
}

/** The seller's API: an nginx that answers by itself. */
export function startUpstream(stage: Stage): Promise<Nginx> {
  return startNginx(stage, 'upstream', `location / { default_type application/json; return 200 '${body}'; }`);
}

/** nginx as a proxy, with kept connections to the upstream. */
export function startProxy(stage: Stage, upstreamUrl: string): Promise<Nginx> {
  return startNginx(
    stage,
    'proxy',
    `location / { proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection ""; }`,
    `upstream upstream { server ${new URL(upstreamUrl).host}; keepalive 128; keepalive_requests 1000000; }`,
  );
}

async function startNginx(stage: Stage, name: string, location: string, outside = ''): Promise<Nginx> {
  // One of its own each time: a case that begins anew starts its nginx anew.
  const folder = await mkdtemp(join(stage.folder, `nginx-${name}-`));
  await chmod(folder, 0o755); // Its worker is another user.
  const port = await findFreePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000;
  ${temporary.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
  ${outside}
  server { listen 127.0.0.1:${port}; ${location} }
}
`,
  );
  const child = spawn('nginx', ['-e', `${folder}/error.log`, '-c', `${folder}/nginx.conf`], {
    stdio: 'ignore',
  });
  stage.defer(async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  const url = `http://127.0.0.1:${port}`;
  await waitUntilAnswering(url);
  return { url, pid: child.pid ?? 0 };
}

async function waitUntilAnswering(url: string): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const answered = await fetch(url).then(
      () => true,
      () => false,
    );
    if (answered) return;
    await sleep(25);
  }
  throw new Error(`nginx does not answer at ${url}`);
}
