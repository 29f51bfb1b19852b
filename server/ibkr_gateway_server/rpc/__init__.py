"""The gRPC edge: the only code, beside app, that imports grpc and the stubs."""
