import { randomBytes } from 'node:crypto';
import { findFreePort, type Instance, startInstance } from './instance.ts';

/** What one of them has besides, or in the place of what they share. */
interface Own {
  first?: Record<string, string>;
  second?: (first: Instance) => Promise<Record<string, string>>;
}

/** Two processes of one installation: one database, one master key, one issuer. Each is called at its own address. */
export async function startPair(
  databaseUrl: string,
  masterKey = randomBytes(32).toString('hex'),
  own: Own = {},
): Promise<[Instance, Instance]> {
  const ports = [await freePorts(), await freePorts()] as const;
  const env = {
    DATABASE_URL: databaseUrl,
    CREDENCE_MASTER_KEY: masterKey,
    CREDENCE_PUBLIC_URL: `http://localhost:${ports[0].api}`,
    CREDENCE_GATEWAY_URL: `http://localhost:${ports[0].gateway}`,
  };
  const first = await startAt(ports[0], { ...env, ...own.first });
  try {
    const second = { CREDENCE_ROLES: 'control,gateway', ...(await own.second?.(first)) };
    return [first, await startAt(ports[1], { ...env, ...second })];
  } catch (error) {
    await first.stop();
    throw error;
  }
}

async function startAt(
  ports: { api: number; gateway: number },
  env: Record<string, string>,
): Promise<Instance> {
  const instance = await startInstance({ ports, env });
  const api_url = `http://localhost:${ports.api}`;
  return {
    ...instance,
    info: { ...instance.info, api_url, gateway_url: `http://localhost:${ports.gateway}` },
  };
}

async function freePorts(): Promise<{ api: number; gateway: number }> {
  return { api: await findFreePort(), gateway: await findFreePort() };
}
