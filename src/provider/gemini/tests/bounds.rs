//! A random provider against the bound: the invoice never exceeds the hold.
