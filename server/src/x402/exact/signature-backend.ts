import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** A build of libsecp256k1. */
export interface SignatureBackend {
  name: 'native' | 'wasm';
  /**
   * The uncompressed public key (65 bytes) that signed the digest. `compact` is r and s; the recovery id is the parity of
   * the point's y. Nothing where no key can have signed.
   */
  recoverPublicKey(digest: Buffer, compact: Buffer, recoveryId: 0 | 1): Uint8Array | undefined;
  /** Signs a digest (RFC 6979, s in the lower half of the order): r and s, and the parity of the point's y. */
  sign(digest: Buffer, privateKey: Buffer): { compact: Uint8Array; recoveryId: number };
}

/** The part of the package's interface that we use; its types don't describe `bindings`. */
interface NativeBindings {
  ecdsaRecover(compact: Buffer, recoveryId: number, digest: Buffer, compressed: boolean): Uint8Array;
  ecdsaSign(digest: Buffer, privateKey: Buffer): { signature: Uint8Array; recid: number };
}

/**
 * The native build. Throws where the package has none for this platform: its `bindings` are asked for by name, because
 * its index falls back without a word to JavaScript that is thirty times slower.
 */
export function loadNativeBackend(): SignatureBackend {
  const bindings = require('secp256k1/bindings') as NativeBindings;
  return {
    name: 'native',
    recoverPublicKey(digest, compact, recoveryId) {
      try {
        return bindings.ecdsaRecover(compact, recoveryId, digest, false);
      } catch {
        return undefined;
      }
    },
    sign(digest, privateKey) {
      const { signature, recid } = bindings.ecdsaSign(digest, privateKey);
      return { compact: signature, recoveryId: recid };
    },
  };
}

/** The WebAssembly build, which runs wherever Node does. Compiled only when asked for: that takes some 50 ms. */
export async function loadWasmBackend(): Promise<SignatureBackend> {
  const wasm = await import('tiny-secp256k1');
  return {
    name: 'wasm',
    recoverPublicKey(digest, compact, recoveryId) {
      try {
        return wasm.recover(digest, compact, recoveryId, false) ?? undefined;
      } catch {
        return undefined;
      }
    },
    sign(digest, privateKey) {
      const { signature, recoveryId } = wasm.signRecoverable(digest, privateKey);
      return { compact: signature, recoveryId };
    },
  };
}

/** The faster build of those that load here. */
export async function loadSignatureBackend(loadNative = loadNativeBackend): Promise<SignatureBackend> {
  try {
    return loadNative();
  } catch {
    return loadWasmBackend();
  }
}
