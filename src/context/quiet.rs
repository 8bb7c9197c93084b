//! What shadow mode asks in the place of policies: the same questions, and never an error.
//!
//! Must answer as `hot` does wherever that answers.

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};

use super::hot::{HOT, Slot, Without, ask_then_return, hot_function, resolve_then_return};
use super::identity::TenantType;

hot_function! {
    "`tenancy.shadow_tenant_id()`: for shadow mode, as `tenancy.current_tenant_id_required()`.",
    pg_tenancy_shadow_tenant_id, pg_finfo_pg_tenancy_shadow_tenant_id, Slot::TenantUuid,
    resolve_then_return(TenantType::Uuid, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_tenant_id_text()`: for shadow mode, as `tenancy.current_tenant_id_text_required()`.",
    pg_tenancy_shadow_tenant_id_text, pg_finfo_pg_tenancy_shadow_tenant_id_text, Slot::TenantText,
    resolve_then_return(TenantType::Text, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_tenant_id_bigint()`: for shadow mode, as `tenancy.current_tenant_id_bigint_required()`.",
    pg_tenancy_shadow_tenant_id_bigint, pg_finfo_pg_tenancy_shadow_tenant_id_bigint, Slot::TenantBigint,
    resolve_then_return(TenantType::Bigint, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_platform_tenant_id()`: for shadow mode, as `tenancy.platform_tenant_id_required()`.",
    pg_tenancy_shadow_platform_tenant_id, pg_finfo_pg_tenancy_shadow_platform_tenant_id, Slot::PlatformUuid,
    ask_then_return(Slot::PlatformUuid, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_platform_tenant_id_text()`: for shadow mode, as `tenancy.platform_tenant_id_text_required()`.",
    pg_tenancy_shadow_platform_tenant_id_text, pg_finfo_pg_tenancy_shadow_platform_tenant_id_text, Slot::PlatformText,
    ask_then_return(Slot::PlatformText, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_platform_tenant_id_bigint()`: for shadow mode, as `tenancy.platform_tenant_id_bigint_required()`.",
    pg_tenancy_shadow_platform_tenant_id_bigint, pg_finfo_pg_tenancy_shadow_platform_tenant_id_bigint, Slot::PlatformBigint,
    ask_then_return(Slot::PlatformBigint, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_user_id_uuid()`: for shadow mode, as `tenancy.current_user_id_uuid_required()`.",
    pg_tenancy_shadow_user_id_uuid, pg_finfo_pg_tenancy_shadow_user_id_uuid, Slot::UserUuid,
    ask_then_return(Slot::UserUuid, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_user_id_text()`: for shadow mode, as `tenancy.current_user_id_text_required()`.",
    pg_tenancy_shadow_user_id_text, pg_finfo_pg_tenancy_shadow_user_id_text, Slot::UserText,
    ask_then_return(Slot::UserText, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_user_id_bigint()`: for shadow mode, as `tenancy.current_user_id_bigint_required()`.",
    pg_tenancy_shadow_user_id_bigint, pg_finfo_pg_tenancy_shadow_user_id_bigint, Slot::UserBigint,
    ask_then_return(Slot::UserBigint, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_user_tenant_ids()`: for shadow mode, as `tenancy.user_tenant_ids_required()`.",
    pg_tenancy_shadow_user_tenant_ids, pg_finfo_pg_tenancy_shadow_user_tenant_ids, Slot::TenantsUuid,
    ask_then_return(Slot::TenantsUuid, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_user_tenant_ids_text()`: for shadow mode, as `tenancy.user_tenant_ids_text_required()`.",
    pg_tenancy_shadow_user_tenant_ids_text, pg_finfo_pg_tenancy_shadow_user_tenant_ids_text, Slot::TenantsText,
    ask_then_return(Slot::TenantsText, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_user_tenant_ids_bigint()`: for shadow mode, as `tenancy.user_tenant_ids_bigint_required()`.",
    pg_tenancy_shadow_user_tenant_ids_bigint, pg_finfo_pg_tenancy_shadow_user_tenant_ids_bigint, Slot::TenantsBigint,
    ask_then_return(Slot::TenantsBigint, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_is_tenant_admin()`: for shadow mode, as `tenancy.is_tenant_admin_required()`.",
    pg_tenancy_shadow_is_tenant_admin, pg_finfo_pg_tenancy_shadow_is_tenant_admin, Slot::TenantAdmin,
    ask_then_return(Slot::TenantAdmin, Without::Quiet)
}
hot_function! {
    "`tenancy.shadow_is_super_admin()`: for shadow mode, as `tenancy.is_super_admin_required()`.",
    pg_tenancy_shadow_is_super_admin, pg_finfo_pg_tenancy_shadow_is_super_admin, Slot::SuperAdmin,
    ask_then_return(Slot::SuperAdmin, Without::Quiet)
}
