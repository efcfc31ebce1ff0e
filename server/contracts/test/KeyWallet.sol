// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The smallest contract account (EIP-1271): what its one key signed is its signature, in a 66-byte form so that a payer
/// with code can't be mistaken for a plain key.
contract KeyWallet {
    address private immutable KEY;

    constructor(address key) {
        KEY = key;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        if (signature.length != 66 || signature[65] != 0x01) return 0xffffffff;
        address signer =
            ecrecover(digest, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64]));
        return signer == KEY ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}
