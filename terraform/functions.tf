# The functions: what starts each of them, what it may touch and what it is told. modules/function turns `access` into a
# policy without wildcard actions; docs/deploy.md shows the same as a table.

locals {
  environment = {
    MOOLA_BUCKET       = module.storage.bucket_name
    MOOLA_TABLE        = module.storage.table_name
    MOOLA_BUS          = module.events.bus_arn
    MOOLA_TRUSTED_KEYS = local.trusted_keys
    MOOLA_SETTINGS     = var.settings
    MOOLA_LOG          = var.log_level
  }

  signing_environment = {
    MOOLA_SIGNING_KEY = module.keys.signing_key_arn
  }

  # What predict hands on, goes to predict_native. By name, not by reference: the functions are made together.
  native_function = "${var.prefix}-predict_native"
  native_environment = {
    MOOLA_PREDICT_NATIVE = local.native_function
  }

  jobs_environment = {
    MOOLA_JOB_PREFIX    = var.prefix
    MOOLA_JOB_LOG_GROUP = module.batch.log_group_name
  }

  defaults = {
    # timeout_secs: up to 3 s for news of what serves, then up to 12 s for predict_native (LIMIT in
    # crates/aws/src/lambda/other.rs), and some for itself.
    predict = {
      description  = "Predicts with compiled models, and logs predictions and outcomes."
      memory_mb    = 1024
      timeout_secs = 20
      batch_size   = null
      access = {
        read   = ["models/", "datasets/", "predictions/", "outcomes/"]
        write  = ["predictions/", "outcomes/"]
        list   = ["predictions/", "outcomes/"]
        table  = "read"
        invoke = true
      }
    }
    predict_native = {
      description  = "Predicts with models that are not compiled; only predict calls it."
      memory_mb    = 1024
      timeout_secs = 12
      batch_size   = null
      access = {
        read  = ["models/", "datasets/", "predictions/", "outcomes/"]
        write = ["predictions/", "outcomes/"]
        list  = ["predictions/", "outcomes/"]
        table = "read"
      }
    }
    registry = {
      description  = "Models, versions, stages, events."
      memory_mb    = 512
      timeout_secs = 29
      batch_size   = null
      access = {
        read    = ["models/", "runs/"]
        table   = "write"
        publish = true
      }
    }
    training = {
      description  = "Datasets, features, training runs, jobs; makes a version of a run that ended."
      memory_mb    = 2048
      timeout_secs = 120
      batch_size   = 5
      access = {
        read    = ["datasets/", "runs/", "models/", "uploads/"]
        write   = ["datasets/", "runs/", "models/", "uploads/"]
        list    = ["runs/"]
        table   = "write"
        publish = true
        sign    = true
        jobs    = true
      }
    }
    compile = {
      description  = "Registers uploaded models; compiles and judges new versions."
      memory_mb    = 3008
      timeout_secs = 300
      batch_size   = 1
      access = {
        read    = ["models/", "datasets/", "runs/", "uploads/"]
        write   = ["models/"]
        table   = "write"
        publish = true
        sign    = true
      }
    }
    drift = {
      description  = "Compares logged predictions with the reference of training."
      memory_mb    = 2048
      timeout_secs = 300
      batch_size   = 1
      access = {
        read    = ["models/", "predictions/", "outcomes/", "drift/"]
        write   = ["drift/"]
        list    = ["predictions/", "outcomes/"]
        table   = "write"
        publish = true
      }
    }
    react = {
      description  = "Promotes what passed its gates, retrains what drifted, keeps the event log."
      memory_mb    = 512
      timeout_secs = 60
      batch_size   = 10
      access = {
        read    = ["models/", "datasets/", "runs/"]
        write   = ["runs/"]
        table   = "write"
        publish = true
        jobs    = true
      }
    }
  }

  functions = {
    for name, function in local.defaults : name => merge(function, {
      memory_mb            = coalesce(try(var.function_overrides[name].memory_mb, null), function.memory_mb)
      timeout_secs         = coalesce(try(var.function_overrides[name].timeout_secs, null), function.timeout_secs)
      reserved_concurrency = coalesce(try(var.function_overrides[name].reserved_concurrency, null), -1)
    })
  }

  # Which function has which routes of the API; the emulators' setup reads the same file. predict_native and
  # react have none.
  routes = merge({ predict_native = [], react = [] }, jsondecode(file("${path.module}/../infra/routes.json")))
}

module "function" {
  source   = "./modules/function"
  for_each = local.functions

  name                 = "${var.prefix}-${each.key}"
  description          = each.value.description
  region               = var.region
  account_id           = local.account_id
  partition            = local.partition
  artifact             = "${var.artifacts_dir}/${each.key}/bootstrap.zip"
  architecture         = var.architecture
  memory_mb            = each.value.memory_mb
  timeout_secs         = each.value.timeout_secs
  reserved_concurrency = each.value.reserved_concurrency
  log_retention_days   = var.retention_days.logs
  environment = merge(
    local.environment,
    try(each.value.access.sign, false) ? local.signing_environment : {},
    try(each.value.access.jobs, false) ? local.jobs_environment : {},
    try(each.value.access.invoke, false) ? local.native_environment : {},
    local.is_emulator ? { AWS_ENDPOINT_URL = var.endpoint_url } : {},
  )
  access = each.value.access
  queue  = each.value.batch_size == null ? null : { arn = module.events.queue_arns[each.key], batch_size = each.value.batch_size }

  resources = {
    bucket_arn          = module.storage.bucket_arn
    table_arn           = module.storage.table_arn
    bus_arn             = module.events.bus_arn
    data_key_arn        = module.keys.data_key_arn
    signing_key_arn     = module.keys.signing_key_arn
    native_function_arn = "arn:${local.partition}:lambda:${var.region}:${local.account_id}:function:${local.native_function}"
    job_queue_arns      = values(module.batch.job_queue_arns)
    job_definition_arns = module.batch.job_definition_arns
    job_log_group_arn   = module.batch.log_group_arn
  }
}
