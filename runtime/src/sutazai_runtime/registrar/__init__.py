"""The registrar: keeps Consul in step with the containers of this host."""
