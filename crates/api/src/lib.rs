//! HTTP routers, wire mapping, error to status and authentication.
