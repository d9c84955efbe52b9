//! Wire shapes and bills.
