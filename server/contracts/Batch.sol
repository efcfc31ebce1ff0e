// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/**
 * @title Batch
 * @notice Makes many calls in one transaction, each of which may fail alone. It stands on local chains where public chains
 * have Multicall3 and answers `aggregate3` as that does, so that the same call data works on both. It has none of its
 * other methods.
 *
 * Like Multicall3 it hands each call all the gas there is (63/64 of it, EIP-150): what an item may burn is for the
 * sender to bound. It passes no value on; like there, value sent to it stays in it.
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

    /// Calls in the order given. A failure reverts everything unless that call allows it.
    function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory returnData) {
        uint256 count = calls.length;
        returnData = new Result[](count);
        for (uint256 i = 0; i < count; ++i) {
            Call3 calldata one = calls[i];
            Result memory result = returnData[i];
            (result.success, result.returnData) = one.target.call(one.callData);
            require(result.success || one.allowFailure, "Multicall3: call failed");
        }
    }
}
