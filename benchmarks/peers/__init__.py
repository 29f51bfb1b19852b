"""What the gateway is compared with: the same work over the same upstream, as it is commonly written."""
