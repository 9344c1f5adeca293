data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  # Whose signatures count: the key that signs now, and those that did before.
  trusted_keys = join("", [for key in concat([module.keys.signing_public_key_pem], var.trusted_keys) : "${trimspace(key)}\n"])
}

module "keys" {
  source = "./modules/keys"

  prefix               = var.prefix
  region               = var.region
  account_id           = local.account_id
  partition            = local.partition
  deletion_window_days = var.protect_data ? 30 : 7
}

module "storage" {
  source = "./modules/storage"

  prefix          = var.prefix
  name_suffix     = "${local.account_id}-${var.region}"
  kms_key_arn     = module.keys.data_key_arn
  protect_data    = var.protect_data
  retention_days  = var.retention_days
  audit_lock_mode = var.audit_lock_mode
}

module "network" {
  source = "./modules/network"

  prefix   = var.prefix
  region   = var.region
  vpc_cidr = var.vpc_cidr
  existing = var.network
}

module "batch" {
  source = "./modules/batch"

  prefix             = var.prefix
  region             = var.region
  account_id         = local.account_id
  partition          = local.partition
  subnet_ids         = module.network.subnet_ids
  security_group_ids = [module.network.security_group_id]
  bucket_arn         = module.storage.bucket_arn
  kms_key_arn        = module.keys.data_key_arn
  log_retention_days = var.retention_days.logs
  log_level          = var.log_level
  protect_data       = var.protect_data
  trainer            = var.trainer
}

module "events" {
  source = "./modules/events"

  prefix                 = var.prefix
  archive_retention_days = var.retention_days.events
  job_queue_arns         = values(module.batch.job_queue_arns)
  drift_schedule         = var.drift_schedule
  drift_schedules        = var.drift_schedules
  retrain_schedules      = var.retrain_schedules
  timeout_secs           = { for name in ["training", "compile", "drift", "react"] : name => local.functions[name].timeout_secs }
}

module "alerts" {
  source = "./modules/alerts"

  prefix      = var.prefix
  account_id  = local.account_id
  bus_name    = module.events.bus_name
  kms_key_arn = module.keys.data_key_arn
  emails      = var.alert_emails
}

module "api" {
  source = "./modules/api"

  prefix             = var.prefix
  region             = var.region
  account_id         = local.account_id
  partition          = local.partition
  functions          = { for name, function in module.function : name => { name = function.name, invoke_arn = function.invoke_arn } if length(local.routes[name]) > 0 }
  routes             = merge([for name, routes in local.routes : { for route in routes : route => name }]...)
  authorization      = var.authorization
  jwt                = var.jwt
  cors_origins       = var.cors_origins
  throttle           = var.throttle
  log_retention_days = var.retention_days.logs
  kms_key_arn        = module.keys.data_key_arn
}

module "domain" {
  source = "./modules/domain"
  count  = var.domain == null ? 0 : 1

  domain     = var.domain
  api_id     = module.api.api_id
  stage_name = module.api.stage_name
}

module "observability" {
  source = "./modules/observability"

  prefix             = var.prefix
  region             = var.region
  functions          = { for name, function in module.function : name => function.name }
  api_id             = module.api.api_id
  table_name         = module.storage.table_name
  dead_letter_queues = module.events.dead_letter_queue_names
  topic_arn          = module.alerts.topic_arn
  emails             = var.alert_emails
  monthly_budget_usd = var.monthly_budget_usd
}

# What makes protect_data stop terraform destroy: this depends on everything, so it is destroyed first, and where data is
# protected it refuses, before anything else is touched.
resource "terraform_data" "protection" {
  input = var.protect_data

  provisioner "local-exec" {
    when    = destroy
    command = self.input ? "echo protect_data is true: apply with protect_data=false first && exit 1" : "exit 0"
  }

  depends_on = [
    module.alerts,
    module.api,
    module.batch,
    module.domain,
    module.events,
    module.function,
    module.keys,
    module.network,
    module.observability,
    module.storage,
  ]
}
