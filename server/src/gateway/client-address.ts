import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import proxyAddress from '@fastify/proxy-addr';

/** Longer ones stand for nobody: they are kept with each payment. */
const chainLengthMax = 300;

/**
 * Where a caller is, as far as that tells one from another. `trustedProxies` (addresses and CIDR blocks) are believed what they say in
 * `X-Forwarded-For`, as on the control plane. What any other proxy says isn't known to be true, and its own address is everybody's:
 * the two together stand for the caller, since who has a payment from the chain knows neither. Empty stands for nobody.
 */
export function createClientAddress(
  trustedProxies: readonly string[],
): (request: Pick<IncomingMessage, 'headers' | 'socket'>) => string {
  const trusts = trustedProxies.length > 0 ? proxyAddress.compile([...trustedProxies]) : () => false;
  return (request) => {
    const peer = request.socket.remoteAddress ?? '';
    const { forwarded, 'x-forwarded-for': forwardedFor } = request.headers;
    if (peer === '' || (forwarded === undefined && forwardedFor === undefined)) return peer;
    if (trusts(peer, 0)) {
      const address = forwardedFor === undefined ? '' : proxyAddress(request as IncomingMessage, trusts);
      return isIP(address) === 0 ? '' : address;
    }
    const chain = `${peer} for ${[forwardedFor, forwarded].filter((value) => value !== undefined).join('; ')}`;
    return chain.length <= chainLengthMax ? chain : '';
  };
}
