import type { Config } from '../config.ts';
import type { DevelopmentInfo } from './development.ts';

/** Says what is where, once everything answers. */
export function printBanner(config: Config, info: DevelopmentInfo, dataDirectory: string): void {
  const rows = [
    ['console', info.console_url],
    ['API', `${info.api_url}/v1  (OpenAPI: ${info.api_url}/v1/openapi.json)`],
    ['gateway', `${info.gateway_url}/api/{slug}/…`],
    ['demo API', `${info.demo_url}  ($0.01 a call)`],
    ['chain', info.rpc_url],
    ['data', `${dataDirectory}  (keys and addresses: dev.json)`],
  ];
  const principal = config.developmentPrincipal
    ? 'Requests from this machine without a credential act as the owner of this instance (CREDENCE_DEV_PRINCIPAL=off ends that).'
    : 'Requests need a credential; the API key is in dev.json.';
  const lines = rows.map(([name = '', value = '']) => `  ${name.padEnd(10)}${value}`);
  process.stdout.write(
    [
      '',
      'Credence is ready, in development mode.',
      '',
      ...lines,
      '',
      principal,
      'Watch an agent pay: npm run demo',
      '',
      '',
    ].join('\n'),
  );
}
