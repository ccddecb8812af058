"""The command line of ATM: `atm`. It talks to a server through `atm.client`."""
