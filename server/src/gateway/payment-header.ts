import type { IncomingMessage } from 'node:http';
import { AppError } from '../kernel/errors.ts';
import { decodePayment, type ReceivedPayment } from '../x402/index.ts';

/**
 * Reads the payment of a request; nothing where it has none. Throws `invalid_payment` where it can't be read, or where
 * there are two: which of them would be charged is not for us to guess.
 */
export function readPayment(request: IncomingMessage): ReceivedPayment | undefined {
  const values = [
    ...(request.headersDistinct['payment-signature'] ?? []),
    ...(request.headersDistinct['x-payment'] ?? []),
  ];
  const [value] = values;
  if (value === undefined) return undefined;
  if (values.length > 1) throw new AppError('invalid_payment', 'Send one payment header, not several');
  if (request.headersDistinct['x-payment']) {
    throw new AppError(
      'invalid_payment',
      'X-PAYMENT is the header of x402 version 1; this API is paid with version 2: PAYMENT-SIGNATURE',
    );
  }
  return decodePayment(value);
}
