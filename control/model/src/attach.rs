//! Which routes belong to which Gateway listeners and Services.
