"""What docs/configuration.md says of the settings of payments (generate.py)."""

PAYMENTS = {
    "x402.pay_to": "The address that is paid. Without it no payment is taken.",
    "x402.network": "The chain: `base`, `base-sepolia`, another name of docs/payments.md, or like `eip155:8453`.",
    "x402.asset": "The token's contract, an ERC-3009 stablecoin of the dollar. Known for Base and Base Sepolia: USDC.",
    "x402.asset_name": "The name in the token's EIP-712 domain.",
    "x402.asset_version": "The version in it.",
    "x402.asset_decimals": "How many decimals the token has.",
    "x402.default_nano_usd": "What is asked of a client that names no amount: a dollar.",
    "x402.min_nano_usd": "The least that may be paid at once.",
    "x402.max_nano_usd": "The most.",
    "x402.valid_seconds": "How long clients are asked to let their signature hold.",
    "x402.settle_timeout_seconds": "How long a call waits for the chain. What comes later is credited all the same.",
    "x402.confirmations": "How many blocks, its own included, must stand on a transaction to be believed.",
    "x402.facilitator_url": "The service that checks and settles payments; `/verify` and `/settle` are below it.",
    "x402.facilitator_token": "Its bearer token, if it wants one. `env:NAME`, `file:PATH` or the secret itself.",
    "x402.rpc_url": (
        "A node of the chain (JSON-RPC): asked what arrived. With a facilitator it may be left out; then a payment "
        "that was interrupted stays open until somebody looks. `env:NAME`, `file:PATH` or the URL itself."
    ),
    "x402.relayer_key": (
        "Instead of a facilitator: the private key that sends the transactions and pays their fee. "
        "`env:NAME`, `file:PATH` or the key itself."
    ),
    "x402.allow_private": "Node and facilitator may be at a loopback or private address.",
}
