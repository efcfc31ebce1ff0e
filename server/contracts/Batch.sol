// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/**
 * @title Batch
 * @notice Makes many calls in one transaction, each of which may fail alone and none of which takes the others' gas. It
 * stands on local chains where public chains have Multicall3 and answers `aggregate3` and `getBlockNumber` as that does,
 * so that the same call data works on both. It has none of its other methods.
 *
 * Multicall3 hands each call all the gas there is (63/64 of it, EIP-150), so that one may burn what the others need. Here a
 * call gets `CALL_GAS` at most. One that fails though it had that much has failed by itself. One that fails with less may
 * have failed only because the batch ran short, which must never be told as its own failure: then the whole batch reverts,
 * and nothing has happened.
 *
 * It passes no value on; like in Multicall3, value sent to it stays in it.
 */
contract Batch {
    struct Call3 {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    /// What one call may use: twice `transferWithAuthorization` of USDC behind its proxy, all of it cold, to a new payee.
    uint256 private constant CALL_GAS = 150_000;

    /// What CALL itself may take before EIP-150 shares the rest: a cold account, and a cold one that it delegates to.
    uint256 private constant CALL_COST = 5_200;

    /// What a call may answer: copying more would cost the batch gas that `CALL_GAS` doesn't bound. The rest is cut off.
    uint256 private constant ANSWER_BYTES = 1_024;

    /// Calls in the order given. A failure reverts everything unless that call allows it.
    function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory returnData) {
        uint256 count = calls.length;
        returnData = new Result[](count);
        for (uint256 i = 0; i < count; ++i) {
            Call3 calldata one = calls[i];
            Result memory result = returnData[i];
            bool hadItsGas;
            (result.success, hadItsGas, result.returnData) = callBounded(one.target, one.callData);
            if (!result.success) {
                require(hadItsGas, "Batch: too little gas");
                require(one.allowFailure, "Multicall3: call failed");
            }
        }
    }

    /// The block that this is asked in: which one the other answers of a batch are of.
    function getBlockNumber() external view returns (uint256 blockNumber) {
        blockNumber = block.number;
    }

    /// `hadItsGas`: whether EIP-150 left the call `CALL_GAS` to use.
    function callBounded(address target, bytes calldata callData)
        private
        returns (bool success, bool hadItsGas, bytes memory answer)
    {
        assembly ("memory-safe") {
            // Free memory holds the call data first, and then the answer.
            answer := mload(0x40)
            calldatacopy(answer, callData.offset, callData.length)
            let available := gas()
            success := call(CALL_GAS, target, 0, answer, callData.length, 0, 0)
            hadItsGas := iszero(lt(sub(available, shr(6, available)), add(CALL_GAS, CALL_COST)))
            let size := returndatasize()
            if gt(size, ANSWER_BYTES) { size := ANSWER_BYTES }
            mstore(answer, size)
            returndatacopy(add(answer, 0x20), 0, size)
            mstore(0x40, and(add(add(answer, size), 0x3f), not(0x1f)))
        }
    }
}
