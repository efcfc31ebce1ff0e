import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { x402Facilitator } from '@x402/core/facilitator';
import { x402ResourceServer } from '@x402/core/server';
import { toFacilitatorEvmSigner } from '@x402/evm';
import { ExactEvmScheme as ExactEvmFacilitator } from '@x402/evm/exact/facilitator';
import { ExactEvmScheme as ExactEvmServer } from '@x402/evm/exact/server';
import { paymentMiddleware } from '@x402/express';
import express from 'express';
import { type Address, createPublicClient, createWalletClient, hashTypedData, type Hex, http } from 'viem';
import { nonceManager, privateKeyToAccount } from 'viem/accounts';
import { baseSepolia } from 'viem/chains';

// A seller's server as the middleware's own documentation builds it. The handler answers by itself, which is less work than
// to forward, and viem's nonce manager keeps concurrent settlements apart: without it most of them fail.
const { RPC_URL = '', RELAYER_KEY = '', PAY_TO = '', BODY = '' } = process.env;
const network = 'eip155:84532';

const account = privateKeyToAccount(RELAYER_KEY as Hex, { nonceManager });
// The default of viem, 4 s, is for public chains.
const chain = { chain: baseSepolia, transport: http(RPC_URL), pollingInterval: 20 };
const wallet = createWalletClient({ account, ...chain });
const reader = createPublicClient(chain);
const signer = toFacilitatorEvmSigner({
  address: account.address,
  readContract: (call) => reader.readContract(call),
  verifyTypedData: ({ address, signature, ...signed }) =>
    reader.verifyHash({ address, signature, hash: hashTypedData(signed) }),
  getCode: (where) => reader.getCode(where),
  writeContract: (call) => wallet.writeContract(call),
  sendTransaction: (sent) => wallet.sendTransaction(sent),
  waitForTransactionReceipt: (sent) => reader.waitForTransactionReceipt(sent),
});
const facilitator = new x402Facilitator().register(network, new ExactEvmFacilitator(signer));
const resourceServer = new x402ResourceServer({
  verify: (payload, terms) => facilitator.verify(payload, terms),
  settle: (payload, terms) => facilitator.settle(payload, terms),
  getSupported: async () => facilitator.getSupported() as Awaited<ReturnType<FacilitatorSupported>>,
}).register(network, new ExactEvmServer());

type FacilitatorSupported = ConstructorParameters<typeof x402ResourceServer>[0] extends infer Clients
  ? Extract<Clients, { getSupported: unknown }>['getSupported']
  : never;

const app = express();
app.use(
  paymentMiddleware(
    {
      'GET /paid': { accepts: { scheme: 'exact', price: '$0.01', network, payTo: PAY_TO as Address } },
    },
    resourceServer,
  ),
);
app.get('/paid', (_request, response) => {
  response.type('application/json').send(BODY);
});
const server = app.listen(0, '127.0.0.1');
await once(server, 'listening');
process.stdout.write(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}/paid\n`);
